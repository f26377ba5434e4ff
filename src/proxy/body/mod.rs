//! The two bodies that pass through: a request's on its way to the backend, a response's on its way to the client. Neither is ever held whole.

mod arriving;
mod events;
mod request;
mod response;
pub(crate) mod sending;

use http_body::Body;

pub(crate) use self::{
    arriving::{ArrivingBody, Receiving},
    events::Events,
    request::{Progress, RequestBody},
    response::ResponseBody,
};

/// Whether there is a body whose length nobody has told.
pub(crate) fn is_chunked(body: &impl Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact().is_none()
}
