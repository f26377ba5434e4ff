//! What HTTP says about a message, purely: authority, path, identity, hop-by-hop headers, framing. No I/O, no logging.

mod acme;
mod authority;
mod claims;
mod cookies;
mod detach;
mod events;
mod external;
mod forwarded;
pub mod framing;
mod grpc;
mod hop_by_hop;
mod identity;
mod path;
mod peers;
mod trailers;

pub use acme::{is_acme_challenge, is_acme_token, is_for_acme_challenges};
pub use authority::{Authority, BadAuthority, authority, canonical_host};
pub use claims::claims_https;
pub use cookies::join_cookies;
pub use detach::detach;
pub use events::is_event_stream;
pub use external::allowed_external;
pub use forwarded::{X_REQUEST_ID, set_forwarded, set_request_id};
pub use grpc::{GRPC, is_grpc};
pub use hop_by_hop::{Upgrade, set_websocket, strip_request, strip_response, wants_upgrade};
pub use identity::{Downstream, Identity, Scheme, identify};
pub use path::{BadPath, normalize};
pub use peers::{BadPeers, CLOUDFLARE_RANGES, CLOUDFLARE_RANGES_DATE, IpSet, Peer, Trust};
pub use trailers::strip_trailers;
