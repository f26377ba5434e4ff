//! The two bodies that pass through: a request's on its way to the backend, a response's on its way to the client. Neither is ever held whole.

mod client;
mod request;
mod response;

pub(crate) use self::{
    client::{ClientBody, Receiving},
    request::{Progress, RequestBody},
    response::ResponseBody,
};
