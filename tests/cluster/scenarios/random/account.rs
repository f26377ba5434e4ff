//! Requests and WebSockets while things happen, and which of their failures are excused.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use anyhow::ensure;
use tokio::time::Instant;

use super::{
    super::changes::site::{HOST, Site},
    act::Act,
};
use crate::{
    load::{self, Load},
    websockets::{self, WebSockets},
};

/// Requests a second, from outside, over all nodes.
const RATE: u32 = 100;
/// WebSockets that are open all the time, over all nodes.
const WEBSOCKETS: u32 = 60;
/// Before anything happens and after it: at least so many requests.
const AROUND: u32 = 150;
/// What a client does at once may be noted a moment later.
const NOTED_WITHIN: Duration = Duration::from_secs(2);

/// Who may fail, and when.
#[derive(Debug, Clone)]
pub struct Excuse {
    pub targets: Vec<SocketAddr>,
    /// As the load counts.
    pub from: Duration,
    pub until: Duration,
    pub whom: Whom,
}

/// What an excuse is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    WebSockets,
    Both,
}

/// What runs, and what has happened.
pub struct Account {
    pub load: Load,
    pub websockets: WebSockets,
    began: Instant,
    excuses: Vec<Excuse>,
    acts: BTreeMap<Act, usize>,
}

/// What clients have seen.
pub struct Seen {
    requests: load::Tally,
    websockets: websockets::Tally,
    acts: BTreeMap<Act, usize>,
}

impl Account {
    /// Starts everything.
    pub async fn begin(site: &Site<'_>) -> anyhow::Result<Self> {
        let websockets = WebSockets::open(&site.cluster.internet, &site.targets, HOST, WEBSOCKETS);
        websockets.all_open().await?;
        let (began, load) = (Instant::now(), Load::start(&site.cluster.internet, &site.targets, HOST, RATE));
        load.ended(AROUND).await?;
        Ok(Self { load, websockets, began, excuses: Vec::new(), acts: BTreeMap::new() })
    }

    pub fn excuse(&mut self, excuse: Excuse) {
        self.excuses.push(excuse);
    }

    /// One more of these.
    pub fn note(&mut self, act: Act, since: Duration) {
        let took = self.load.now().saturating_sub(since);
        println!("random: at {:.0} s {act:?}, for {:.1} s", since.as_secs_f32(), took.as_secs_f32());
        *self.acts.entry(act).or_default() += 1;
    }

    /// Ends everything; an error where something failed without an excuse.
    pub async fn end(self) -> anyhow::Result<Seen> {
        let Self { load, websockets, began, excuses, acts } = self;
        websockets.all_open().await?;
        load.ended(AROUND).await?;
        let seen = Seen { requests: load.stop(), websockets: websockets.stop(), acts };
        let excused = |target: &SocketAddr, sent: Duration, ended: Duration, is_websocket: bool| {
            excuses.iter().any(|excuse| {
                let meanwhile = ended + NOTED_WITHIN >= excuse.from && sent <= excuse.until + NOTED_WITHIN;
                excuse.targets.contains(target) && meanwhile && (excuse.whom == Whom::Both || is_websocket)
            })
        };
        let requests =
            seen.requests.failed.iter().filter(|failure| !excused(&failure.target, failure.sent, failure.sent + failure.took, false));
        let at = |end: &websockets::End| end.at.saturating_duration_since(began);
        let websockets = seen.websockets.lost().filter(|end| !excused(&end.target, at(end), at(end), true));
        let surprises: Vec<String> = requests.map(ToString::to_string).chain(websockets.map(ToString::to_string)).take(5).collect();
        ensure!(surprises.is_empty(), "failed without an excuse, of which there are {excuses:#?}:\n  {}", surprises.join("\n  "));
        Ok(seen)
    }
}

impl Seen {
    pub fn account(&self) -> String {
        format!(
            "{} of {} requests failed, all of them for a process or node that was killed; {} WebSockets were told, and {} broke, or were refused, in the same way",
            self.requests.failed.len(),
            self.requests.sent,
            self.websockets.told().count(),
            self.websockets.lost().count(),
        )
    }

    pub fn acts(&self) -> String {
        self.acts.iter().map(|(act, count)| format!("{count} × {act}")).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Upgrade => "upgrade",
            Self::BrokenUpgrade => "upgrade to a version that crashes",
            Self::Kill => "process killed",
            Self::KillWithoutApiServer => "process killed without an API server",
            Self::ApiServerStops => "API server stopped",
            Self::BackendUpdate => "rolling update of the backend",
            Self::BackendDeletedByForce => "pod deleted by force",
            Self::Edits => "edits of others, half of them wrong",
            Self::EtcdSetBack => "etcd set back to a backup",
            Self::Reboot => "node without power and control plane",
        })
    }
}
