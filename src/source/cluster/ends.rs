//! How watches end. One that the API server ends at the time that was asked for goes on from where it was. Any other end is a failure, after which everything is listed
//! anew: what answers next may be a cluster that was set back to a backup, whose versions are still behind, and a watch that goes on from ours would be silent until
//! they have caught up. kube takes most of these ends for ordinary ones.

use std::{
    error::Error,
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::{Body, Frame};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::trouble::chain;
use crate::config::limits::API_WATCH_ENDS;

type Cause = Box<dyn Error + Send + Sync>;
type Frames = Pin<Box<dyn stream::Stream<Item = Result<Frame<Bytes>, Cut>> + Send>>;

/// Has every answer say how it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends;

/// A client whose answers do.
#[derive(Debug, Clone)]
pub(super) struct Told<S>(S);

/// An answer that ended early, and why, in words alone: kube looks for an `UnexpectedEof` among an error's causes, and for what is replaced here in its words.
#[derive(Debug, thiserror::Error)]
#[error("the answer ended early: {0}")]
pub(super) struct Cut(String);

impl<S> Layer<S> for Ends {
    type Service = Told<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Told(inner)
    }
}

impl<S, Q, B> Service<Request<Q>> for Told<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Cause>,
{
    type Response = Response<StreamBody<Frames>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let watches = request.uri().query().is_some_and(|query| query.split('&').any(|parameter| parameter == "watch=true"));
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let lasts = watches && answer.status().is_success();
            Ok(answer.map(|body| StreamBody::new(frames(body, lasts))))
        })
    }
}

/// What a body is made of; of one that `lasts`, an error in the place of an end before its time.
fn frames<B>(body: B, lasts: bool) -> Frames
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Cause>,
{
    let began = Instant::now();
    let end = stream::once(ready(())).filter_map(move |()| {
        let early = lasts && began.elapsed() < API_WATCH_ENDS;
        ready(early.then(|| Err(Cut("the API server has ended it".to_owned()))))
    });
    Box::pin(BodyStream::new(body).map_err(|error| Cut::of(&*error.into())).chain(end))
}

impl Cut {
    fn of(error: &(dyn Error + Send + Sync + 'static)) -> Self {
        Self(chain(error).replace("unexpected EOF during chunk", "end of file in a chunk"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::API_WATCH_SECONDS;
    use http_body_util::{BodyExt, Full};
    use std::time::Duration;
    use tokio::time::advance;
    use tower::{ServiceExt, service_fn};

    async fn answer(target: &str, status: u16, after: Duration) -> Result<Bytes, String> {
        let server = service_fn(move |_: Request<()>| {
            let answer = Response::builder().status(status).body(Full::new(Bytes::from_static(b"events"))).unwrap();
            ready(Ok::<_, std::convert::Infallible>(answer))
        });
        let request = Request::get(target).body(()).unwrap();
        let answer = Ends.layer(server).oneshot(request).await.unwrap();
        advance(after).await;
        BodyExt::collect(answer.into_body()).await.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_watch_that_ends_before_its_time_has_failed() {
        let whole = Duration::from_secs(API_WATCH_SECONDS.into());
        for (target, status, after, fails) in [
            ("/apis?watch=true&timeoutSeconds=60", 200, whole, false),
            ("/apis?allowWatchBookmarks=true&watch=true", 200, Duration::from_secs(1), true),
            ("/apis?limit=500", 200, Duration::ZERO, false),
            ("/apis", 200, Duration::ZERO, false),
            // What is wrong is in it.
            ("/apis?watch=true", 410, Duration::ZERO, false),
        ] {
            assert_eq!(answer(target, status, after).await.is_err(), fails, "{target} {status} {after:?}");
        }
    }
}
