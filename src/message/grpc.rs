//! What is gRPC, by its content type (gRPC over HTTP/2, "Requests").

use http::{HeaderMap, Version, header::CONTENT_TYPE};

/// The media type, which may have a suffix.
pub const GRPC: &str = "application/grpc";

/// Whether a request is a call of gRPC: over HTTP/2, and of its content type, with or without how messages are written (`+proto`).
pub fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_2
        && headers.get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes();
            kind.starts_with(GRPC.as_bytes()) && matches!(kind.get(GRPC.len()), None | Some(b'+' | b';'))
        })
}
