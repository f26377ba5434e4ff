//! Durations as people write them: `75s`, `500ms`, `2m`, `1h30m`.

use std::{fmt, str::FromStr, time::Duration};

/// A duration that was written on the command line, or is shown to people. At most a year, so that adding it to a clock can't overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// No number where one should be, or one with a sign or a fraction.
    #[error("expected a whole number with a unit, such as 75s, 500ms or 2m")]
    Number,
    /// A unit that isn't known, or none.
    #[error("the unit must be one of ms, s, m, h, as in 75s, 500ms or 2m")]
    Unit,
    /// More than a year.
    #[error("must not be more than a year")]
    TooLong,
}

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// Largest first, as they are shown.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let mut rest = text;
        let mut total = Duration::ZERO;
        if rest == "0" {
            return Ok(Self(total));
        }
        loop {
            let (number, behind) = split(rest, |c| c.is_ascii_digit());
            let (unit, behind) = split(behind, |c| c.is_ascii_alphabetic());
            if number.is_empty() {
                return Err(BadSpan::Number);
            }
            let millis = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis).ok_or(BadSpan::Unit)?;
            let count: u64 = number.parse().map_err(|_| BadSpan::TooLong)?;
            total = total.saturating_add(Duration::from_millis(count.checked_mul(millis).ok_or(BadSpan::TooLong)?));
            if total > YEAR {
                return Err(BadSpan::TooLong);
            }
            if behind.is_empty() {
                return Ok(Self(total));
            }
            rest = behind;
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            let count = millis / u128::from(size);
            millis %= u128::from(size);
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown() {
        for (text, millis, shown) in [
            ("75s", 75_000, "1m15s"),
            ("500ms", 500, "500ms"),
            ("2m", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1500ms", 1500, "1s500ms"),
            ("0s", 0, "0s"),
            ("0", 0, "0s"),
            ("8784h", 366 * 24 * 3_600_000, "8784h"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0, span.to_string().as_str()), (Duration::from_millis(millis), shown), "{text}");
            assert_eq!(shown.parse::<Span>(), Ok(span), "what is shown can be written");
        }
    }

    #[test]
    fn what_is_no_span_says_why() {
        for (text, error) in [
            ("", BadSpan::Number),
            ("s", BadSpan::Number),
            ("-1s", BadSpan::Number),
            ("+1s", BadSpan::Number),
            ("75", BadSpan::Unit),
            ("1.5s", BadSpan::Unit),
            ("75 s", BadSpan::Unit),
            ("1d", BadSpan::Unit),
            ("1S", BadSpan::Unit),
            ("1s5", BadSpan::Unit),
            ("1s ", BadSpan::Number),
            ("8785h", BadSpan::TooLong),
            ("99999999999999999999s", BadSpan::TooLong),
            ("18446744073709551615h", BadSpan::TooLong),
        ] {
            assert_eq!(text.parse::<Span>(), Err(error), "{text:?}");
        }
    }
}
