//! What is spoken with a backend, and how it proves who it is: what the Ingress says, else its Service, else the port's `appProtocol`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;

use super::{
    super::{
        annotations::{Dealings, Spoken},
        certificates::{self, Certificates},
        incremental::Name,
        options,
    },
    Problem, problem,
};
use crate::{
    certificate::{self, Offer, ServerTrust},
    route::{BackendId, BackendTls, Protocol},
};

/// The values of `appProtocol` that mean anything here: Kubernetes' own (KEP-3726), and what people and other controllers write (IANA's service names
/// among it). Whatever nobody knows is HTTP/1.1 over plain TCP, as an absent one is.
const APP_PROTOCOLS: [(&str, Spoken); 11] = [
    ("http", Spoken::Http),
    ("kubernetes.io/ws", Spoken::Http),
    ("kubernetes.io/h2c", Spoken::H2c),
    ("h2c", Spoken::H2c),
    ("http2", Spoken::H2c),
    ("grpc", Spoken::H2c),
    ("https", Spoken::Https),
    ("kubernetes.io/wss", Spoken::Https),
    ("wss", Spoken::Https),
    ("h2", Spoken::H2),
    ("grpcs", Spoken::H2),
];

/// What is spoken where no annotation of ours says it: what the port says of itself, unless that is in clear and was encrypted until now.
pub(super) fn unless_said(port: Option<&ServicePort>, dealings: &Dealings<'_>) -> Spoken {
    match port.and_then(of_port).unwrap_or(Spoken::Http) {
        Spoken::Http | Spoken::H2c if dealings.encrypted_elsewhere => Spoken::Unsaid,
        said @ (Spoken::Http | Spoken::H2c | Spoken::Https | Spoken::H2 | Spoken::Unknown | Spoken::Unsaid) => said,
    }
}

fn of_port(port: &ServicePort) -> Option<Spoken> {
    let named = port.app_protocol.as_deref()?;
    APP_PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(named)).map(|(_, spoken)| *spoken)
}

/// # Errors
/// Whatever leaves it open who the backend is: nobody is believed instead.
pub(super) fn resolve(
    spoken: Spoken,
    dealings: &Dealings<'_>,
    id: &BackendId,
    own_name: &str,
    secrets: &mut Certificates<'_>,
    tls: options::Tls,
) -> Result<Protocol, Problem> {
    let offer = match spoken {
        Spoken::Http => return Ok(Protocol::Http1),
        Spoken::H2c => return Ok(Protocol::H2c),
        Spoken::Https => Offer::Either,
        Spoken::H2 => Offer::Http2,
        Spoken::Unknown => {
            let message = format!("nobody knows what {} speaks", super::service_text(id));
            return Err(problem("unknown_protocol", "", message, "correct nodegate.dev/backend-protocol"));
        }
        Spoken::Unsaid => {
            let message =
                format!("an annotation of ingress-nginx asks for TLS to {}, to which this would go in clear", super::service_text(id));
            let help = "write nodegate.dev/backend-protocol, as \"https\" or \"grpcs\", on the Ingress or the Service; ingress-nginx verifies no certificate, \
                        which is nodegate.dev/backend-tls-verify: \"off\"";
            return Err(problem("unencrypted_backend", "", message, help));
        }
    };
    let server_name = dealings.server_name.unwrap_or(own_name);
    if !certificate::is_server_name(server_name) {
        let message = format!("the name `{server_name}`, which its certificate is to be for, is none");
        return Err(problem("bad_server_name", "", message, "write a DNS name or an address as nodegate.dev/backend-server-name"));
    }
    let trust = match dealings.ca_secret {
        _ if dealings.unverified => ServerTrust::anyone(),
        // Nobody can tell here what is in it.
        Some(_) if tls == options::Tls::Unknown => ServerTrust::public(),
        Some(secret) => return with_secret(id, secret, server_name, offer, secrets, tls),
        None => ServerTrust::public(),
    };
    let trust = trust.map_err(|error| problem("bad_authorities", "", error.to_string(), "report this"))?;
    Ok(Protocol::Tls(Arc::new(BackendTls { server_name: Arc::from(server_name), trust, offer })))
}

fn with_secret(
    id: &BackendId,
    secret: &str,
    server_name: &str,
    offer: Offer,
    secrets: &mut Certificates<'_>,
    tls: options::Tls,
) -> Result<Protocol, Problem> {
    let name = Name { namespace: Arc::clone(&id.namespace), name: Arc::from(secret) };
    let trust = secrets.authorities(&name).map_err(|bad| {
        let help = if tls == options::Tls::NotServed && matches!(bad, certificates::Problem::Missing(_)) {
            "Secrets are read only with --https"
        } else {
            "create it with `kubectl create secret generic --from-file=ca.crt=...`"
        };
        problem(bad.code(), "", format!("{bad}; its authorities are to vouch for {}", super::service_text(id)), help)
    })?;
    Ok(Protocol::Tls(Arc::new(BackendTls { server_name: Arc::from(server_name), trust, offer })))
}
