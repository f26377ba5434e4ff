//! On which line of a document a field stands: what a decoded value has forgotten.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_path_to_error::Segment;
use serde_saphyr::Spanned;

/// A document without its values.
#[derive(Debug)]
pub(super) struct Lines {
    /// Where it begins, counted from 1; 0 where nobody knows.
    line: u64,
    below: Below,
}

#[derive(Debug)]
enum Below {
    Fields(HashMap<String, Lines>),
    Elements(Vec<Lines>),
    Nothing,
}

impl Lines {
    /// The line of what these steps lead to, or of the last on their way that is there.
    pub(super) fn of<'a>(&self, steps: impl Iterator<Item = &'a Segment>) -> u64 {
        let (mut line, mut place) = (self.line, self);
        for step in steps {
            let next = match (step, &place.below) {
                (Segment::Map { key }, Below::Fields(fields)) => fields.get(key),
                (Segment::Seq { index }, Below::Elements(elements)) => elements.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            (line, place) = (if next.line == 0 { line } else { next.line }, next);
        }
        line
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Below>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), below: value })
    }
}

impl<'de> Deserialize<'de> for Below {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Below;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Below, A::Error> {
        let mut fields = HashMap::new();
        while let Some((key, value)) = map.next_entry()? {
            fields.insert(key, value);
        }
        Ok(Below::Fields(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Below, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element()? {
            all.push(element);
        }
        Ok(Below::Elements(all))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Below, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Below, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_none<E>(self) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_str<E>(self, _: &str) -> Result<Below, E> {
        Ok(Below::Nothing)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Below, E> {
        Ok(Below::Nothing)
    }
}
