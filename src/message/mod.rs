//! What HTTP says about a message, purely: authority, path, identity, hop-by-hop headers, framing. No I/O, no logging.

pub mod framing;
