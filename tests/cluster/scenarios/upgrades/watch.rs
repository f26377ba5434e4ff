//! Requests and WebSockets to all nodes while something happens, and what became of them.

use std::net::SocketAddr;

use anyhow::ensure;

use super::site::{Bare, HOST};
use crate::{
    load::{self, Load},
    websockets::{self, WebSockets},
};

/// Requests a second, from outside, over all nodes.
pub const RATE: u32 = 150;
/// WebSockets that are open all the time, over all nodes.
pub const WEBSOCKETS: u32 = 200;
/// Before something happens and after it: at least so many requests.
const AROUND: u32 = 150;

/// What runs.
pub struct Watch {
    pub load: Load,
    websockets: WebSockets,
}

/// What clients have seen.
#[derive(Debug)]
pub struct Seen {
    pub requests: load::Tally,
    pub websockets: websockets::Tally,
}

impl Watch {
    /// Starts everything, and waits until all WebSockets are open and some requests have ended.
    pub async fn begin(site: &Bare<'_>) -> anyhow::Result<Self> {
        let websockets = WebSockets::open(&site.cluster.internet, &site.targets, HOST, WEBSOCKETS);
        websockets.all_open().await?;
        let load = Load::start(&site.cluster.internet, &site.targets, HOST, RATE);
        load.ended(AROUND).await?;
        Ok(Self { load, websockets })
    }

    /// Waits until all WebSockets are open again, and ends everything after some more requests.
    pub async fn end(self) -> anyhow::Result<Seen> {
        self.websockets.all_open().await?;
        self.load.ended(AROUND).await?;
        Ok(Seen { requests: self.load.stop(), websockets: self.websockets.stop() })
    }
}

impl Seen {
    /// Says that no request has failed, and no WebSocket has ended but by being told.
    pub fn nothing_was_lost(&self) -> anyhow::Result<()> {
        self.requests.all_succeeded()?;
        let shown: Vec<String> = self.websockets.lost().take(5).map(ToString::to_string).collect();
        ensure!(shown.is_empty(), "{} WebSockets were lost:\n  {}", self.websockets.lost().count(), shown.join("\n  "));
        Ok(())
    }

    /// As [`Self::nothing_was_lost`], and no WebSocket has ended at all.
    pub fn nothing_happened(&self) -> anyhow::Result<()> {
        self.nothing_was_lost()?;
        let told = self.websockets.told().count();
        ensure!(told == 0, "{told} WebSockets were told to go, and nobody went");
        Ok(())
    }

    /// How many requests failed of those to these targets.
    pub fn account(&self, targets: &[SocketAddr]) -> String {
        let failed = self.requests.failed.iter().filter(|failure| targets.contains(&failure.target)).count();
        let succeeded = self.requests.succeeded.iter().filter(|success| targets.contains(&success.target)).count();
        format!("{failed} of {} requests failed", failed + succeeded)
    }
}
