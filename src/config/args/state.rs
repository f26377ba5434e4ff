//! The flags of the state on disk.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, builder::BoolishValueParser};

use crate::config::{limits as defaults, span::Span};

/// What `serve` keeps on disk of its cluster. Not with `--manifests`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// Keep a copy of the cluster's objects in this directory, and serve it where the API server doesn't answer at the start
    #[arg(long, env = "NODEGATE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Keep Secrets there, too: certificates and their keys, readable by this user alone
    #[arg(long, env = "NODEGATE_PERSIST_SECRETS", value_parser = BoolishValueParser::new())]
    pub persist_secrets: bool,
    /// How long to wait at the start for the API server, before that copy is served
    #[arg(long, env = "NODEGATE_API_TIMEOUT", value_name = "TIME", default_value_t = Span(defaults::API_TIMEOUT))]
    pub api_timeout: Span,
    /// Serve that copy and nothing else, for as long as no other process serves on this node: for a static pod, which starts without an API server
    #[arg(long, env = "NODEGATE_STANDBY", value_parser = BoolishValueParser::new())]
    pub standby: bool,
}

/// `nodegate prepare`.
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// The directory: made where it is missing, and readable by its owner alone
    #[arg(long, env = "NODEGATE_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Whose it is to be, by number
    #[arg(long, env = "NODEGATE_OWNER", value_name = "UID:GID")]
    pub owner: Owner,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub user: u32,
    /// The group's.
    pub group: u32,
}

impl FromStr for Owner {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
        numbers.map(|(user, group)| Self { user, group }).ok_or("expected two numbers, such as 65532:65532")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_two_numbers() {
        assert_eq!("65532:100".parse(), Ok(Owner { user: 65532, group: 100 }));
        for wrong in ["", "1", "1:", ":1", "root:root", "1:2:3", "-1:0", "4294967296:0"] {
            assert!(wrong.parse::<Owner>().is_err(), "{wrong}");
        }
    }
}
