//! A request about an Event, and what can become of it.

use std::sync::Arc;

use super::finding::{Finding, Object};

/// What an Event says of its finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// That it is there.
    Broken,
    /// That it is gone.
    Fixed,
}

/// How to write an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It isn't known to exist.
    Create,
    /// It exists, written by another process: what that has counted stays.
    Adopt,
    /// It says something else so far: it is counted from 1 again.
    Turn,
    /// It says the same already, and is told once more.
    Repeat {
        /// How often, this time included.
        count: i32,
    },
}

/// One request to the API server.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// What it is about.
    pub finding: Arc<Finding>,
    /// What the Event is to say.
    pub phase: Phase,
    /// Whether it is new.
    pub how: How,
}

/// An Event as it is to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    /// Its name.
    pub event: &'a str,
    /// What it is about.
    pub object: &'a Object,
    /// `fieldPath`; empty for the object as a whole.
    pub field: &'a str,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// `reason`.
    pub reason: &'a str,
    /// `message`.
    pub message: &'a str,
    /// The version of the object that it is about, where it is about one.
    pub version: Option<&'a str>,
    /// Whether it is new.
    pub how: How,
}

impl Request {
    /// What the Event is to say.
    pub(super) fn words(&self) -> Words<'_> {
        let Self { finding, phase, how } = self;
        let Finding { event, object, field, reason, note, fixed } = &**finding;
        let (kind, reason, message) = match phase {
            Phase::Broken => ("Warning", reason.as_str(), note),
            Phase::Fixed => ("Normal", "Fixed", fixed),
        };
        Words { event, object, field, kind, reason, message, version: None, how: *how }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The Event is stored, with this count.
    Stored(i32),
    /// Not created: there is one of this name. Another process wrote it, or this one before it restarted.
    Exists,
    /// Not changed: there is none. It has expired, or somebody deleted it.
    Missing,
    /// It can't be stored, and trying again is no use: its namespace goes, or the API server calls it invalid.
    Hopeless,
    /// Not allowed in its namespace: RBAC, a quota, a policy.
    Refused,
    /// The API server is away, overloaded, or doesn't know us.
    Unreachable,
}
