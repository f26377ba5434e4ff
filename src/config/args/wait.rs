//! The flags of `wait`.

#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links, reason = "these comments are the help texts, which are no Markdown")]

use std::{fmt, str::FromStr};

use clap::Args;

use super::TableArgs;
use crate::config::span::Span;

/// `nodegate wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The Ingress; what counts is the version that it has when this begins
    #[arg(long, env = "NODEGATE_INGRESS", value_name = "NS/NAME")]
    pub ingress: IngressName,
    /// How long to wait for the last node, at most 24h [default: 1m]
    #[arg(long, env = "NODEGATE_TIMEOUT", value_name = "TIME")]
    pub timeout: Option<Span>,
    /// Where Nodegate's pods are
    #[arg(long, env = "NODEGATE_NODEGATE_NAMESPACE", value_name = "NS", default_value = "nodegate-system")]
    pub nodegate_namespace: String,
    /// How objects become routes: which Ingresses are ours.
    #[command(flatten)]
    pub table: TableArgs,
}

/// An Ingress: `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressName {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl FromStr for IngressName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("expected the Ingress's namespace and name, as in shop/web"),
        }
    }
}

impl fmt::Display for IngressName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
