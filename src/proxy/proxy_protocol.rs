//! PROXY protocol (versions 1 and 2): what a load balancer in front says of whose connection it passes on. Only from the peers that `--proxy-protocol` names,
//! and from these always: anyone else could claim to be anybody.

use std::{future::poll_fn, io, net::SocketAddr, rc::Rc};

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader, Tlv};
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::connection::{Connection, Timing};
use crate::config::limits::PROXY_HEADER_BYTES;

const CONFIG: ParseConfig = ParseConfig { include_tlvs: true, allow_v1: true, allow_v2: true };

/// Bytes that a header of version 1 has at least.
const SHORTEST_V1: usize = b"PROXY UNKNOWN\r\n".len();
/// Bytes of a header of version 2 whose length they tell.
const FIXED_V2: usize = 16;
/// Where a header of version 2 has its version and command, and what that is for a connection of the proxy's own.
const COMMAND_V2: usize = 12;
const LOCAL_V2: u8 = 0x20;
/// The family, next to the command, of whoever says nothing of addresses.
const UNSPECIFIED_V2: u8 = 0;
/// Where a redirect to HTTPS leads.
const HTTPS_PORT: u16 = 443;

/// Reads the header, and nothing behind it. False: there is none, or it came too late, or its source may not connect.
pub(super) async fn greet(connection: &Rc<Connection>, stream: &mut TcpStream) -> bool {
    let worker = connection.worker();
    connection.time(Timing::Head);
    let late = poll_fn(|cx| {
        connection.remember_waker(cx.waker());
        connection.poll_late(cx)
    });
    let result = tokio::select! {
        biased;
        result = read(stream) => result,
        () = late => Err(io::ErrorKind::TimedOut.into()),
    };
    connection.has_shaken();
    match result {
        // Its own connection, for a health check.
        Ok(Source::Proxy) => true,
        Ok(source) => {
            if let Source::Client { address, claims_tls } = source {
                connection.set_source(address, claims_tls);
            }
            worker.admits(connection.peer())
        }
        Err(error) => {
            worker.count(|numbers| numbers.proxy_headers_bad += 1);
            tracing::debug!(peer = %connection.peer(), %error, "no PROXY protocol");
            false
        }
    }
}

/// Whose connection it is.
enum Source {
    /// The proxy's own.
    Proxy,
    Client {
        address: SocketAddr,
        /// Whether the client seems to have come with TLS, which the proxy has ended where we get none.
        claims_tls: bool,
    },
    /// Somebody's, of whom the proxy doesn't know more, or doesn't tell.
    Unknown,
}

async fn read(stream: &mut TcpStream) -> io::Result<Source> {
    let mut header = Vec::with_capacity(SHORTEST_V1);
    loop {
        let more = missing(&header, stream).await?;
        // Reading nothing is always done at once: without an end here, that would go on for ever.
        if more == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the header lacks its addresses"));
        }
        let before = header.len();
        if before + more > PROXY_HEADER_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the header is too long"));
        }
        header.resize(before + more, 0);
        stream.read_exact(header.get_mut(before..).unwrap_or_default()).await?;
        // Of the proxy's own connection, what follows is to be skipped, and its family to be ignored (section 2.2 of the protocol's text).
        if header.len() == FIXED_V2
            && let [b'\r', .., LOCAL_V2, family, _, _] = header.as_mut_slice()
        {
            *family = UNSPECIFIED_V2;
        }
        match ProxyHeader::parse(&header, CONFIG) {
            Ok((parsed, _)) => return source(&parsed, &header),
            Err(Error::BufferTooShort) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
    }
}

/// How many bytes come next that surely belong to the header.
async fn missing(header: &[u8], stream: &TcpStream) -> io::Result<usize> {
    match header {
        [] => Ok(1),
        [b'P', ..] if header.len() < SHORTEST_V1 => Ok(SHORTEST_V1 - header.len()),
        [b'P', ..] => {
            let mut ahead = [0; 128];
            let count = stream.peek(&mut ahead).await?;
            let ahead = ahead.get(..count).unwrap_or_default();
            Ok(ahead.iter().position(|&byte| byte == b'\n').map_or(count, |end| end + 1).max(1))
        }
        [.., high, low] if header.len() == FIXED_V2 => Ok(usize::from(u16::from_be_bytes([*high, *low]))),
        _ if header.len() < FIXED_V2 => Ok(FIXED_V2 - header.len()),
        // Such a header is complete, or it isn't one.
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn source(header: &ProxyHeader<'_>, bytes: &[u8]) -> io::Result<Source> {
    match header.proxied_address() {
        None if bytes.get(COMMAND_V2) == Some(&LOCAL_V2) => Ok(Source::Proxy),
        None => Ok(Source::Unknown),
        Some(address) if address.protocol == Protocol::Stream => {
            Ok(Source::Client { address: address.source, claims_tls: claims_tls(header, address.destination) })
        }
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is about datagrams")),
    }
}

/// Whether a redirect to HTTPS would lead to where the client is: it has come with TLS, or to the very port that a redirect leads to.
fn claims_tls(header: &ProxyHeader<'_>, destination: SocketAddr) -> bool {
    // An extension that makes no sense is the last one that is seen.
    let has_tls = |extension: Result<Tlv<'_>, Error>| matches!(extension, Ok(Tlv::Ssl(tls)) if tls.client_ssl());
    destination.port() == HTTPS_PORT || header.tlvs().any(has_tls)
}
