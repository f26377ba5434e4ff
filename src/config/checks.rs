//! What flags say together that can't be.

use std::net::SocketAddr;

use super::{
    args::TableArgs,
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
