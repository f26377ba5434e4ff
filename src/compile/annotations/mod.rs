//! Our own annotations: a closed world. What begins with `nodegate.dev/` and isn't known here, or can't be parsed, is a diagnostic.

mod foreign;
mod hsts;
mod names;

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderValue;
use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};

pub(super) use foreign::read as read_foreign;
use names::Misnamed;

use super::{
    Diagnostic, Https, Subject,
    index::{IndexedIngress, name, namespace},
};
use crate::route::Policy;

const PREFIX: &str = "nodegate.dev/";
const DIAL: &str = "nodegate.dev/dial";
const USE_REGEX: &str = "nodegate.dev/use-regex";

const BACKEND_PROTOCOL: &str = "nodegate.dev/backend-protocol";
const BACKEND_CA_SECRET: &str = "nodegate.dev/backend-ca-secret";
const BACKEND_SERVER_NAME: &str = "nodegate.dev/backend-server-name";
const SSL_REDIRECT: &str = "nodegate.dev/ssl-redirect";
const HSTS: &str = "nodegate.dev/hsts";
const CLIENT_CA_SECRET: &str = "nodegate.dev/client-ca-secret";
const BACKEND_TLS_VERIFY: &str = "nodegate.dev/backend-tls-verify";

/// `nodegate.dev/dial`: what a connection is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dial {
    /// The Service's ClusterIP.
    ClusterIp,
    /// The pods.
    Endpoints,
}

/// What is spoken with a backend: `nodegate.dev/backend-protocol`, or a Service port's `appProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Spoken {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS; gRPC is that.
    H2c,
    /// HTTP over TLS, in the version that the backend chooses.
    Https,
    /// HTTP/2 over TLS.
    H2,
    /// Something that nobody understands, and that may have been meant to be encrypted.
    Unknown,
    /// What another controller would have encrypted, and for which nobody has said here how.
    Unsaid,
}

/// How an Ingress's backends are to be dealt with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Dealings<'a> {
    pub(super) dial: Option<Dial>,
    pub(super) protocol: Option<Spoken>,
    /// The Secret of the authorities that vouch for a backend.
    pub(super) ca_secret: Option<&'a str>,
    /// What a backend's certificate is for.
    pub(super) server_name: Option<&'a str>,
    /// Whether its certificate matters: it does, unless somebody says that it doesn't.
    pub(super) unverified: bool,
    /// The controller that the Ingress was written for would have encrypted what it sends there.
    pub(super) encrypted_elsewhere: bool,
}

/// What an Ingress asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IngressAnnotations<'a> {
    pub(super) dealings: Dealings<'a>,
    /// `ImplementationSpecific` paths are regular expressions.
    pub(super) use_regex: bool,
    pub(super) policy: Policy,
    /// The Secret of the authorities that vouch for its clients.
    pub(super) client_ca_secret: Option<&'a str>,
    /// Why all of it is to answer 503: something that may protect it, and that can't be understood.
    pub(super) refusal: Option<Arc<str>>,
}

/// What `nodegate.dev/client-ca-secret` is called, for those who complain of it.
pub(super) fn client_ca_field() -> String {
    field(CLIENT_CA_SECRET)
}

/// The Secrets that an Ingress's annotations name, which are in its namespace.
pub(super) fn secrets(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let annotations = ingress.metadata.annotations.as_ref();
    let named = |annotations| [BACKEND_CA_SECRET, CLIENT_CA_SECRET].map(|key| BTreeMap::get(annotations, key));
    annotations.into_iter().flat_map(named).flatten().map(|name| name.trim())
}

/// Whether an Ingress asks for a protection of what leads to it, or of what it leads to, that another version of it doesn't ask for.
pub(super) fn protects_otherwise(ingress: &Ingress, other: &Ingress) -> bool {
    const PROTECTIONS: [&str; 5] = [CLIENT_CA_SECRET, BACKEND_PROTOCOL, BACKEND_CA_SECRET, BACKEND_SERVER_NAME, BACKEND_TLS_VERIFY];
    let of = |ingress: &Ingress, key: &str| ingress.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key).cloned());
    PROTECTIONS.iter().any(|key| of(ingress, key).is_some_and(|value| of(other, key) != Some(value)))
}

/// Reads an Ingress's annotations of ours.
///
/// `https`: whether any request can count as one over it.
pub(super) fn read_ingress<'a>(ingress: &IndexedIngress<'a>, https: Https, diagnostics: &mut Vec<Diagnostic>) -> IngressAnnotations<'a> {
    let Some(annotations) = &ingress.object.metadata.annotations else { return IngressAnnotations::default() };
    let mut reader = Reader { kind: "Ingress", annotations, subject: &|field| Subject::ingress(&ingress.id, field), diagnostics };
    let refusal = reader.check_names("all of this Ingress answers 503").map(Arc::from);
    let dealings = Dealings {
        dial: reader.dial(),
        protocol: reader.protocol(),
        ca_secret: reader.text(BACKEND_CA_SECRET),
        server_name: reader.text(BACKEND_SERVER_NAME),
        unverified: reader.value(BACKEND_TLS_VERIFY, &[("on", false), ("off", true)]).unwrap_or_default(),
        encrypted_elsewhere: false,
    };
    IngressAnnotations {
        dealings,
        use_regex: reader.flag(USE_REGEX),
        policy: Policy { https_only: reader.flag(SSL_REDIRECT) && reader.can_redirect(https), hsts: reader.hsts(), ..Policy::default() },
        client_ca_secret: reader.text(CLIENT_CA_SECRET),
        refusal,
    }
}

/// Reads a Service's annotations of ours.
///
/// # Errors
/// Why what leads there is to answer 503: something that may protect it, and that can't be understood.
pub(super) fn read_service(service: &Service, diagnostics: &mut Vec<Diagnostic>) -> Result<Dealings<'static>, String> {
    let Some(annotations) = service.metadata.annotations.as_ref() else { return Ok(Dealings::default()) };
    let subject = |field| Subject::Object {
        kind: "Service",
        namespace: namespace(&service.metadata).into(),
        name: name(&service.metadata).into(),
        field,
    };
    let mut reader = Reader { kind: "Service", annotations, subject: &subject, diagnostics };
    let refusal = reader.check_names("what leads to this Service answers 503");
    let dealings = Dealings { dial: reader.dial(), protocol: reader.protocol(), ..Dealings::default() };
    refusal.map_or(Ok(dealings), Err)
}

struct Reader<'a, 'r> {
    kind: &'static str,
    annotations: &'a BTreeMap<String, String>,
    subject: &'r dyn Fn(String) -> Subject,
    diagnostics: &'r mut Vec<Diagnostic>,
}

impl<'a> Reader<'a, '_> {
    /// Complains of names that mean nothing here. Returns the last of them that may have been meant to protect; `refused` is what becomes of it then.
    fn check_names(&mut self, refused: &str) -> Option<String> {
        let mut refusal = None;
        let ours = self.annotations.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX));
        for (key, _) in ours {
            let Some(Misnamed { mut message, help, may_protect }) = names::check(key, self.kind) else { continue };
            if may_protect {
                message = format!("{message}, and it may have been meant to protect: {refused}");
                refusal = Some(format!("the annotation {key}, which may protect it, isn't understood"));
            }
            self.diagnostics.push(Diagnostic::error("unknown_annotation", (self.subject)(field(key)), message, help));
        }
        refusal
    }

    fn dial(&mut self) -> Option<Dial> {
        self.value(DIAL, &[("clusterip", Dial::ClusterIp), ("endpoints", Dial::Endpoints)])
    }

    fn protocol(&mut self) -> Option<Spoken> {
        let meanings = [
            ("http", Spoken::Http),
            ("h2c", Spoken::H2c),
            ("grpc", Spoken::H2c),
            ("https", Spoken::Https),
            ("h2", Spoken::H2),
            ("grpcs", Spoken::H2),
        ];
        let value = self.annotations.get(BACKEND_PROTOCOL)?;
        // Others write it in capitals.
        let found = meanings.iter().find(|(text, _)| text.eq_ignore_ascii_case(value)).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let message = format!("`{value}` is no protocol: what leads there answers 503");
            let help = "write \"http\", \"h2c\", \"grpc\", \"https\", \"h2\" or \"grpcs\"";
            self.diagnostics.push(Diagnostic::error("bad_annotation", (self.subject)(field(BACKEND_PROTOCOL)), message, help));
        }
        found.or(Some(Spoken::Unknown))
    }

    fn flag(&mut self, key: &str) -> bool {
        self.value(key, &[("true", true), ("false", false)]).unwrap_or_default()
    }

    /// Where no request ever counts as one over HTTPS, each would be redirected for ever.
    fn can_redirect(&mut self, https: Https) -> bool {
        let subject = || (self.subject)(field(SSL_REDIRECT));
        let (found, can) = match https {
            Https::Possible => return true,
            Https::PassedOn => {
                let message = "a load balancer that --proxy-protocol names, and that ends TLS itself, would have its clients redirected for ever, unless its header \
                               says that there was TLS, or that they came to port 443";
                (Diagnostic::warning("redirect_loop", subject(), message, "let it pass TLS on to --https"), true)
            }
            Https::Never => {
                let message = "no request could ever count as one over HTTPS here, so that each would be redirected for ever; the annotation is ignored";
                let help = "start with --https, or name the proxy that ends TLS with --trusted-proxies (cloudflare, for Cloudflare)";
                (Diagnostic::error("redirect_loop", subject(), message, help), false)
            }
        };
        self.diagnostics.push(found);
        can
    }

    fn hsts(&mut self) -> Option<HeaderValue> {
        let text = self.annotations.get(HSTS)?;
        hsts::parse(text.trim()).unwrap_or_else(|why| {
            let message = format!("`{text}` is no policy: {why}; the annotation is ignored");
            let help = "write such as \"max-age=31536000; includeSubDomains\", or \"off\"";
            self.diagnostics.push(Diagnostic::error("bad_annotation", (self.subject)(field(HSTS)), message, help));
            None
        })
    }

    /// A value that is a name.
    fn text(&mut self, key: &str) -> Option<&'a str> {
        self.annotations.get(key).map(|value| value.trim())
    }

    /// The meaning of an annotation's value; an error, and nothing, for a value that isn't in `meanings`.
    fn value<T: Copy>(&mut self, key: &str, meanings: &[(&str, T)]) -> Option<T> {
        let value = self.annotations.get(key)?;
        let found = meanings.iter().find(|(text, _)| text == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let allowed: Vec<String> = meanings.iter().map(|(text, _)| format!("\"{text}\"")).collect();
            let message = format!("`{value}` has no meaning here; the annotation is ignored");
            let help = format!("write {}", allowed.join(" or "));
            self.diagnostics.push(Diagnostic::error("bad_annotation", (self.subject)(field(key)), message, help));
        }
        found
    }
}

fn field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}
