//! Now, as HTTP writes it (RFC 9110 section 5.6.7): made anew once a second at most.

use std::{
    cell::{Cell, RefCell},
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

/// The text of the second that was asked for last.
pub(super) struct HttpDate {
    second: Cell<u64>,
    text: RefCell<HeaderValue>,
}

impl HttpDate {
    pub(super) fn new() -> Self {
        Self { second: Cell::new(u64::MAX), text: RefCell::new(HeaderValue::from_static("")) }
    }

    pub(super) fn at(&self, time: SystemTime) -> HeaderValue {
        let second = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.replace(second) != second {
            let written = Timestamp::try_from(time).ok().and_then(|time| DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok());
            self.text.replace(written.and_then(|text| HeaderValue::try_from(text).ok()).unwrap_or(HeaderValue::from_static("")));
        }
        self.text.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_follows_the_time() {
        let date = HttpDate::new();
        for (millis, expected) in [
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777_999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778_000, "Sun, 06 Nov 1994 08:49:38 GMT"),
            // The clock was set back, by a day.
            (784_025_378_000, "Sat, 05 Nov 1994 08:49:38 GMT"),
        ] {
            assert_eq!(date.at(UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
    }
}
