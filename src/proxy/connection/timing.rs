//! What a connection's clock runs for.

/// What is expected of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timing {
    /// Nothing: it is our turn, or its body's, which has a clock of its own.
    Nothing,
    /// A request, or nothing.
    Idle,
    /// The rest of a head.
    Head,
    /// The preface of HTTP/2.
    Preface,
    /// The rest of a handshake.
    Handshake,
    /// An answer to our farewell (HTTP/2).
    Farewell,
}
