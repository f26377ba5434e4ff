//! What a Nodegate that runs in a cluster knows about itself there: its pod, its Lease, and the addresses that it is to tell.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use serde_json::{Value, json};

use super::{SettingsError, args::ClusterArgs, settings::bad};

/// The shortest `--lease-duration`: shorter ones make a leader of every hiccup. Tests use it.
const LEASE_DURATION_MIN: Duration = Duration::from_secs(1);

/// The longest `--lease-duration`: nobody wants to wait longer for a new leader.
const LEASE_DURATION_MAX: Duration = Duration::from_secs(300);

/// Characters of `--lease-name`.
const LEASE_NAME_MAX: usize = 50;

/// Everything that the cluster's side of `serve` needs to know. Not used with `--manifests`.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The name of the pod that this process runs in, if it does.
    pub pod_name: Option<String>,
    /// Which of all pods that ever had that name: its `metadata.uid`.
    pub pod_uid: Option<String>,
    /// Its namespace, which also has the Lease; `None`: that of the service account, or of the kubeconfig.
    pub pod_namespace: Option<String>,
    /// The name of the Lease.
    pub lease_name: String,
    /// How long the others wait for a silent leader.
    pub lease_duration: Duration,
    /// What to write into the status of Ingresses in place of the nodes' addresses; empty: those.
    pub publish: BTreeSet<Address>,
}

/// An address that clients use: what a status can hold. Sorted as it is written: IPv4, IPv6, names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// For `ip`.
    Ip(IpAddr),
    /// For `hostname`: lower case, without a dot at its end.
    Name(String),
}

impl TryFrom<ClusterArgs> for ClusterSettings {
    type Error = SettingsError;

    fn try_from(args: ClusterArgs) -> Result<Self, SettingsError> {
        let ClusterArgs { pod_name, pod_uid, pod_namespace, lease_name, lease_duration, publish_address } = args;
        for (flag, name) in
            [("--pod-name", pod_name.as_deref()), ("--pod-namespace", pod_namespace.as_deref()), ("--lease-name", Some(&lease_name))]
        {
            if name.is_some_and(|name| !is_domain(name)) {
                return Err(bad(flag, &"expected the name of a Kubernetes object: lower-case letters, digits, `-` and `.`"));
            }
        }
        // It is part of the field manager's name, which has 128 characters at most.
        if lease_name.len() > LEASE_NAME_MAX {
            return Err(bad("--lease-name", &format!("must not have more than {LEASE_NAME_MAX} characters")));
        }
        if !(LEASE_DURATION_MIN..=LEASE_DURATION_MAX).contains(&lease_duration.0) {
            return Err(bad("--lease-duration", &"must be from 1s to 5m"));
        }
        let publish = publish_address.iter().map(|text| Address::parse(text)).collect::<Result<_, _>>()?;
        let pod_uid = pod_uid.filter(|uid| !uid.is_empty());
        Ok(Self { pod_name, pod_uid, pod_namespace, lease_name, lease_duration: lease_duration.0, publish })
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, SettingsError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // A number at the end would make it an address that isn't one (RFC 1123 section 2.1).
        let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_domain(&name) || numeric {
            return Err(bad("--publish-address", &format!("{text:?} is neither an IP address nor a host name")));
        }
        Ok(Self::Name(name))
    }
}

/// Dot-separated labels of lower-case letters, digits and inner dashes: RFC 1123, as Kubernetes takes it.
fn is_domain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The flags by name, with the values in force.
pub(super) fn shown(args: &ClusterArgs) -> Value {
    let ClusterArgs { pod_name, pod_uid, pod_namespace, lease_name, lease_duration, publish_address } = args;
    json!({
        "pod-name": pod_name,
        "pod-uid": pod_uid,
        "pod-namespace": pod_namespace,
        "lease-name": lease_name,
        "lease-duration": lease_duration.to_string(),
        "publish-address": publish_address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Span, limits::LEASE_DURATION};

    fn arguments(addresses: &[&str]) -> ClusterArgs {
        ClusterArgs {
            pod_name: Some("nodegate-x7k2p".into()),
            pod_uid: None,
            pod_namespace: None,
            lease_name: "nodegate".into(),
            lease_duration: Span(LEASE_DURATION),
            publish_address: addresses.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn published_addresses_are_sorted_and_come_once() {
        let settings = ClusterSettings::try_from(arguments(&["LB.Example.", "2001:db8::1", "192.0.2.9", "lb.example", "::ffff:192.0.2.9"]));
        let text: Vec<_> = settings.unwrap().publish.into_iter().map(|address| format!("{address:?}")).collect();
        assert_eq!(text, ["Ip(192.0.2.9)", "Ip(2001:db8::1)", "Name(\"lb.example\")"]);
        for wrong in ["", "a b", "-a.example", "192.0.2.256", "http://lb.example", "lb.example:80", "*.example", "a..b"] {
            let error = ClusterSettings::try_from(arguments(&[wrong])).unwrap_err().to_string();
            assert!(error.contains("--publish-address"), "{wrong}: {error}");
        }
    }

    #[test]
    fn names_and_durations_that_make_no_sense_are_refused() {
        for (change, expected) in [
            (Box::new(|args: &mut ClusterArgs| args.pod_name = Some("Node_1".into())) as Box<dyn Fn(&mut ClusterArgs)>, "--pod-name"),
            (Box::new(|args| args.pod_namespace = Some(String::new())), "--pod-namespace"),
            (Box::new(|args| args.lease_name = "a/b".into()), "--lease-name"),
            (Box::new(|args| args.lease_duration = Span(Duration::from_millis(999))), "--lease-duration"),
            (Box::new(|args| args.lease_duration = Span(Duration::from_secs(301))), "--lease-duration"),
        ] {
            let mut args = arguments(&[]);
            change(&mut args);
            let error = ClusterSettings::try_from(args).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
