//! What may be wrong with a request's body, as its connection and its request tell each other.

use super::super::error::Reason;

/// What is wrong with the body of the current request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// Its client went away in the middle of it.
    Gone,
    /// Broken chunks.
    Malformed,
    /// Too long between two reads, or too slow altogether.
    Timeout,
}

impl BodyFault {
    /// What becomes of its request.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Gone => Reason::ClientGone,
            Self::Malformed => Reason::BadRequest,
            Self::Timeout => Reason::ClientTimeout,
        }
    }
}
