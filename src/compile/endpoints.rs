//! The addresses behind one port of a Service, as its EndpointSlices tell.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::ServicePort,
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Diagnostic, Subject,
    index::{name, namespace},
};

/// The addresses that may be dialled, sorted: the ready ones, or, where none is ready, those that are terminating but still serving.
pub(super) fn addresses(slices: &[&EndpointSlice], port: &ServicePort, diagnostics: &mut Vec<Diagnostic>) -> Arc<[SocketAddr]> {
    let (mut ready, mut terminating) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let EndpointSlice { address_type, endpoints, metadata: _, ports } = slice;
        if !matches!(address_type.as_str(), "IPv4" | "IPv6") {
            diagnostics.push(Diagnostic::warning(
                "unsupported_slice",
                subject(slice, "addressType"),
                format!("`{address_type}` addresses are not supported; the slice is ignored"),
                "use IPv4 or IPv6",
            ));
            continue;
        }
        let Some(number) = ports.iter().flatten().find_map(|candidate| slice_port(candidate, port)) else { continue };
        for (index, Endpoint { addresses, conditions, .. }) in endpoints.iter().flatten().enumerate() {
            // The API gives no meaning to further addresses, and kube-proxy doesn't look at them.
            let Some(address) = addresses.first() else { continue };
            let Ok(ip) = address.parse::<IpAddr>() else {
                let field = format!("endpoints[{index}].addresses[0]");
                let message = format!("`{address}` is no IP address; the endpoint is ignored");
                diagnostics.push(Diagnostic::error("bad_endpoint", subject(slice, field), message, "write an IP address"));
                continue;
            };
            match state(conditions.as_ref()) {
                State::Ready => ready.insert(SocketAddr::new(ip, number)),
                State::Terminating => terminating.insert(SocketAddr::new(ip, number)),
                State::Away => false,
            };
        }
    }
    if ready.is_empty() { terminating.into_iter().collect() } else { ready.into_iter().collect() }
}

enum State {
    Ready,
    /// Not ready any more, but still answers: better than nothing.
    Terminating,
    Away,
}

/// The API text: an absent `ready` is to be read as ready; `serving` and `terminating` tell about pods on their way out.
fn state(conditions: Option<&EndpointConditions>) -> State {
    let Some(EndpointConditions { ready, serving, terminating }) = conditions else { return State::Ready };
    if *ready != Some(false) {
        State::Ready
    } else if *serving == Some(true) && *terminating == Some(true) {
        State::Terminating
    } else {
        State::Away
    }
}

/// The number of a slice's port, if it is the Service's: an unnamed port has the empty name on both sides.
fn slice_port(candidate: &EndpointPort, port: &ServicePort) -> Option<u16> {
    let EndpointPort { app_protocol: _, name, port: number, protocol } = candidate;
    let same = name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default();
    if !same || protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return None;
    }
    // A slice port without a number leaves the choice to us: what the Service's port leads to.
    let number = number.or(match port.target_port {
        Some(IntOrString::Int(target)) => Some(target),
        Some(IntOrString::String(_)) | None => Some(port.port),
    });
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn subject(slice: &EndpointSlice, field: impl Into<String>) -> Subject {
    let meta = &slice.metadata;
    Subject::Object { kind: "EndpointSlice", namespace: namespace(meta).into(), name: name(meta).into(), field: field.into() }
}
