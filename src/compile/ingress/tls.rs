//! `spec.tls`: certificates onto the hosts that the Ingress's own rules route, and the default certificate.

use std::sync::Arc;

use super::{
    super::{
        Diagnostic, Options, Subject, annotations,
        certificates::{self, Certificates, Served},
        incremental::Name,
        options,
        parse::Tls,
    },
    Compiler, Current,
};
use crate::route::{Bound, Builder, HostPattern, Precedent};

/// What to do about a Secret that is of no use.
const SECRET_HELP: &str = "create it with `kubectl create secret tls`, or let cert-manager do so";

impl<'a> Compiler<'a> {
    /// Gives a certificate to those hosts of the Ingress that it is for.
    pub(super) fn tls(&mut self, current: &mut Current<'a, '_>, tls: &Tls<'a>, routed: &[HostPattern]) {
        let Tls { index, hosts: _, secret } = tls;
        let (hosts, stray) = certificates::hosts(tls, routed);
        for host in stray {
            let message = format!("no rule of this Ingress routes {host}, which gets no certificate by it");
            current.warn(
                "tls_host_without_rule",
                format!("spec.tls[{index}].hosts"),
                message,
                "add a rule for the host, or name the Secret where the rule is",
            );
        }
        let Some(secret) = secret else { return };
        let field = || format!("spec.tls[{index}].secretName");
        let Served { certificate, problem } =
            self.certificates.get(&Name { namespace: Arc::clone(&current.id.namespace), name: Arc::from(*secret) });
        if let Some(problem) = problem {
            let message = format!("{problem}; {} is served", instead(certificate.is_some(), "the default certificate"));
            current.error(problem.code(), field(), message, SECRET_HELP);
        }
        let Some(certificate) = certificate else { return };
        for host in hosts {
            if !certificate.covers(&host.to_string()) {
                let message = format!("the certificate in Secret {} doesn't name {host}: clients will refuse it", certificate.source());
                current.warn("certificate_name", field(), message, "have one issued that names the host");
            }
            if let Err(precedent) = self.table.certificate(&host, &certificate, &current.id) {
                let (why, help) = outranked(&host, precedent);
                current.error("certificate_conflict", field(), format!("{why}; this one is not in force"), help);
            }
        }
    }
}

/// Why another certificate is in force, and what to do about it.
fn outranked(host: &HostPattern, precedent: Precedent) -> (String, &'static str) {
    match precedent {
        Precedent::Certificate(Bound { certificate, ingress }) => {
            let whose = ingress.map_or_else(String::new, |ingress| format!(" of Ingress {ingress}"));
            let why = format!("{host} has a certificate already, {} {}{whose}", certificate.algorithm(), certificate.source());
            (why, "remove one of the two: a host has one ECDSA and one RSA certificate, of one namespace")
        }
        Precedent::Owner(owner) => {
            let why = format!("Ingress {owner}, which is older, routes {host}, and its namespace decides on the certificate");
            (why, "name the Secret in an Ingress of that namespace, or use another host")
        }
    }
}

impl<'a> Compiler<'a> {
    /// Finds the authorities that vouch for an Ingress's clients. Where there are none, nobody comes in.
    pub(super) fn find_clients(&mut self, current: &mut Current<'a, '_>) {
        let Some(secret) = current.annotations.client_ca_secret else { return };
        let found = match self.options.tls {
            // Nobody can tell here what is in it.
            options::Tls::Unknown => return,
            options::Tls::NotServed => {
                Err(("tls_not_served", "there are no certificates of clients without TLS".to_owned(), "start with --https"))
            }
            options::Tls::Served => {
                let name = Name { namespace: Arc::clone(&current.id.namespace), name: Arc::from(secret) };
                let help = "create it with `kubectl create secret generic --from-file=ca.crt=...`";
                self.certificates.client_authorities(&name).map_err(|bad| (bad.code(), bad.to_string(), help))
            }
        };
        match found {
            Ok(clients) => current.annotations.policy.clients = Some(clients),
            Err((code, why, help)) => {
                let message = format!("{why}; it is to vouch for the clients of this Ingress, all of which answers 503");
                current.error(code, annotations::client_ca_field(), message, help);
                current.annotations.refusal.get_or_insert_with(|| Arc::from(why));
            }
        }
    }

    /// Lets only these clients connect for a host.
    pub(super) fn clients(&mut self, current: &mut Current<'a, '_>, field: &str, host: &HostPattern) {
        let Some(clients) = current.annotations.policy.clients.clone() else { return };
        if *host == HostPattern::Any {
            let message = "without a host nobody can be asked for a certificate: what leads here answers 421";
            current.error("clients_without_host", field, message, "name the host");
        } else if let Err(winner) = self.table.clients(host, &clients, &current.id) {
            let message = format!("the clients of {host} are those of Ingress {winner}, which is older: this one's paths answer 421");
            current.error("conflict", field, message, "let the older one name the Secret");
        }
    }
}

/// Puts the default certificate into the table. Returns what is wrong with it.
pub(super) fn default_certificate(options: &Options, secrets: &mut Certificates<'_>, table: &mut Builder) -> Option<Diagnostic> {
    let name = certificates::default_name(options)?;
    let Served { certificate, problem } = secrets.get(&name);
    let served = instead(certificate.is_some(), "one that was made at the start");
    if let Some(certificate) = certificate {
        table.default_certificate(certificate);
    }
    let problem = problem?;
    let Name { namespace, name } = name;
    let subject = Subject::Object { kind: "Secret", namespace, name, field: String::new() };
    let message = format!("{problem}; it is the default certificate, in whose place {served} is served");
    Some(Diagnostic::error(problem.code(), subject, message, SECRET_HELP))
}

/// What is served where a Secret is of no use.
fn instead(had_a_good_one: bool, otherwise: &'static str) -> &'static str {
    if had_a_good_one { "the last certificate that it held" } else { otherwise }
}
