//! What flags say together that can't be.

use std::net::SocketAddr;

use super::{
    args::TableArgs,
    handover::{AfterHandover, Handover},
    secret_name::SecretName,
    settings::{SettingsError, bad},
};

/// At one address one protocol begins.
pub(super) fn addresses(http: &[SocketAddr], https: &[SocketAddr], h2c: &[SocketAddr]) -> Result<(), SettingsError> {
    for (flag, addresses, before) in [("--https", https, &[("--http", http)][..]), ("--h2c", h2c, &[("--http", http), ("--https", https)])]
    {
        for (other, taken) in before {
            if let Some(both) = addresses.iter().find(|address| address.port() != 0 && taken.contains(address)) {
                return Err(bad(flag, &format!("{both} is an address for {other}, too")));
            }
        }
    }
    Ok(())
}

/// What the flags of TLS say that can't be.
pub(super) fn tls(table: &TableArgs) -> Result<(), SettingsError> {
    if let Some(SecretName { namespace, name: _ }) = &table.default_certificate
        && !table.watch_namespace.is_empty()
        && !table.watch_namespace.contains(namespace)
    {
        return Err(bad("--default-certificate", &format!("the namespace {namespace} isn't watched: name it with --watch-namespace, too")));
    }
    Ok(())
}

/// How a process that stands by learns of others, and they get its place.
pub(super) fn standby(handover: &Handover, admin: SocketAddr) -> Result<(), SettingsError> {
    if admin.port() == 0 {
        return Err(bad("--standby", &"looks at the address of --admin for who else serves on this node: name its port"));
    }
    if handover.name.is_none() {
        return Err(bad("--standby", &"needs --handover: whoever comes takes the sockets over"));
    }
    if handover.after == AfterHandover::Wait {
        return Err(bad("--standby", &"can't be used with --after-handover wait: what it serves is older than what whoever comes does"));
    }
    Ok(())
}
