//! A service account's token, which the kubelet replaces. The Kubernetes client would read its file anew by the wall clock: where that is set back by a day, not for
//! a day, while a token is good for an hour.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use http::{HeaderValue, Request, header::AUTHORIZATION};
use tokio::time::Instant;

use crate::config::limits::API_TOKEN_AGE;

/// The file, and what was in it when it was last read.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    header: HeaderValue,
    read: Instant,
}

impl TokenFile {
    /// # Errors
    /// It can't be read, or is no token.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let known = Known { header: read(&path)?, read: Instant::now() };
        Ok(Self { path, known: Mutex::new(known) })
    }

    /// Gives a request the token.
    pub(super) fn authorize<B>(&self, mut request: Request<B>) -> Request<B> {
        request.headers_mut().insert(AUTHORIZATION, self.header());
        request
    }

    fn header(&self) -> HeaderValue {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.read.elapsed() >= API_TOKEN_AGE {
            known.read = Instant::now();
            // A file that is gone, or half written, is none to go by: the token that is known may be good for long.
            if let Ok(header) = read(&self.path) {
                known.header = header;
            }
        }
        known.header.clone()
    }
}

fn read(path: &PathBuf) -> io::Result<HeaderValue> {
    let token = fs::read_to_string(path)?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(io::Error::other)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_read_anew_after_its_time_and_outlives_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(TokenFile::open(path.clone()).is_err());
        fs::write(&path, "one\n").unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        let sent = || file.authorize(Request::new(())).headers()[AUTHORIZATION].clone();
        fs::write(&path, "two").unwrap();
        advance(API_TOKEN_AGE / 2).await;
        assert_eq!(sent(), "Bearer one");
        advance(API_TOKEN_AGE / 2).await;
        assert_eq!(sent(), "Bearer two");
        fs::remove_file(&path).unwrap();
        advance(API_TOKEN_AGE).await;
        assert_eq!(sent(), "Bearer two");
        assert!(sent().is_sensitive(), "it isn't to be logged");
    }
}
