//! The broken modes, `/broken/NAME`, and `/100`: bytes on the wire that a correct HTTP library refuses to send.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What to put on the connection instead of an answer.
pub(crate) struct Script {
    /// The last part of the path.
    pub(crate) name: &'static str,
    /// Sent as they are.
    bytes: &'static [u8],
    /// What happens after them.
    then: Then,
}

enum Then {
    /// An orderly end (FIN).
    Close,
    /// An abortive end (RST).
    Reset,
    /// Silence until the other end closes.
    Stall,
    /// The same bytes again and again, until the other end closes.
    Repeat,
}

/// Every mode there is.
pub(crate) const SCRIPTS: &[Script] = &[
    Script { name: "close", bytes: b"", then: Then::Close },
    Script { name: "reset", bytes: b"", then: Then::Reset },
    Script { name: "stall", bytes: b"", then: Then::Stall },
    Script { name: "mid-headers", bytes: b"HTTP/1.1 200 OK\r\nContent-Type: text/pl", then: Then::Close },
    Script { name: "mid-body", bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", then: Then::Close },
    Script { name: "mid-chunk", bytes: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", then: Then::Close },
    Script { name: "reset-body", bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", then: Then::Reset },
    Script { name: "stall-body", bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", then: Then::Stall },
    Script { name: "garbage", bytes: b"\x00\x01\x02 this is not HTTP\r\n\r\n", then: Then::Close },
    Script {
        name: "length-and-chunked",
        bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        then: Then::Close,
    },
    Script { name: "endless-100", bytes: b"HTTP/1.1 100 Continue\r\n\r\n", then: Then::Repeat },
    Script {
        name: "unasked-101",
        bytes: b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        then: Then::Stall,
    },
    Script {
        name: "100",
        bytes:
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        then: Then::Close,
    },
];

/// Plays a script to its end.
pub(crate) async fn play(mut stream: TcpStream, script: &Script) {
    // A failed write means that the other end has gone, which ends every script.
    if stream.write_all(script.bytes).await.is_err() {
        return;
    }
    match script.then {
        Then::Close => {}
        Then::Reset => {
            let _ = stream.set_zero_linger();
        }
        Then::Stall => {
            let mut ignored = [0; 4096];
            while stream.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
        }
        Then::Repeat => {
            let mut pause = tokio::time::interval(std::time::Duration::from_millis(50));
            while stream.write_all(script.bytes).await.is_ok() {
                pause.tick().await;
            }
        }
    }
}
