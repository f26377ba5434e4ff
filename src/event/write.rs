//! One request about an Event, and what its answer means. Core Events, not those of events.k8s.io: `kubectl describe` sorts by times that only the
//! former have, and only they may change their text when what they tell of is fixed.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams, PostParams},
    core::Status,
};
use serde_json::{Value, json};
use tokio::time;

use super::{
    Reporter,
    finding::Object,
    request::{How, Outcome, Words},
};
use crate::config::limits::EVENT_WRITE_TIMEOUT;

/// Sends it. Returns what became of it, and why where it failed.
pub(super) async fn send(client: &Client, reporter: &Reporter, words: Words<'_>) -> (Outcome, String) {
    let events = Api::<Event>::namespaced(client.clone(), words.object.event_namespace());
    let now = Time(Timestamp::now());
    let answer = time::timeout(EVENT_WRITE_TIMEOUT, async {
        match patch(words, reporter, &now) {
            None => events.create(&PostParams::default(), &event(words, reporter, now)).await,
            Some(patch) => events.patch(words.event, &PatchParams::default(), &Patch::Merge(patch)).await,
        }
    });
    match answer.await {
        Ok(Ok(stored)) => (Outcome::Stored(stored.count.unwrap_or(1)), String::new()),
        Ok(Err(Error::Api(status))) => (refusal(&status, words.how), status.message.clone()),
        Ok(Err(error)) => (Outcome::Unreachable, chain(&error)),
        Err(_) => (Outcome::Unreachable, format!("no answer within {EVENT_WRITE_TIMEOUT:?}")),
    }
}

/// What the API server means by it.
fn refusal(status: &Status, how: How) -> Outcome {
    match (status.code, how) {
        (409, How::Create) => Outcome::Exists,
        // Of the Event. Of its namespace, where it was to be created: that is going, and the object with it.
        (404, How::Adopt | How::Turn | How::Repeat { .. }) => Outcome::Missing,
        (403, _) if is_terminating(status) => Outcome::Hopeless,
        (403, _) => Outcome::Refused,
        (400 | 404 | 405 | 406 | 410 | 413 | 415 | 422, _) => Outcome::Hopeless,
        _ => Outcome::Unreachable,
    }
}

/// Whether nothing can be created because the namespace is being deleted.
fn is_terminating(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

fn event(words: Words<'_>, reporter: &Reporter, now: Time) -> Event {
    let Words { event, object, field, kind, reason, message, version, how: _ } = words;
    let Object { name, api_version, uid } = object;
    let Reporter { controller, instance, namespace: _ } = reporter;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Event {
        metadata: ObjectMeta {
            name: Some(event.to_owned()),
            namespace: Some(object.event_namespace().to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some((*api_version).to_owned()),
            kind: Some(name.kind.to_owned()),
            namespace: text(&name.namespace),
            name: Some(name.name.to_string()),
            uid: Some(uid.to_string()),
            field_path: text(field),
            resource_version: version.map(str::to_owned),
        },
        type_: Some(kind.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource { component: Some(controller.clone()), host: None }),
        reporting_component: Some(controller.clone()),
        reporting_instance: Some(instance.clone()),
        // Of events.k8s.io.
        action: None,
        event_time: None,
        related: None,
        series: None,
    }
}

/// What changes of an Event that exists; `None` where none does.
fn patch(words: Words<'_>, reporter: &Reporter, now: &Time) -> Option<Value> {
    let mut patch = json!({
        "type": words.kind,
        "reason": words.reason,
        "message": words.message,
        "lastTimestamp": now,
        "reportingInstance": reporter.instance,
    });
    let more = match words.how {
        How::Create => return None,
        How::Adopt => json!({}),
        How::Turn => json!({ "count": 1, "firstTimestamp": now }),
        How::Repeat { count } => json!({ "count": count }),
    };
    let about = words.version.map_or_else(|| json!({}), |version| json!({ "involvedObject": { "resourceVersion": version } }));
    for more in [more, about] {
        if let (Value::Object(patch), Value::Object(more)) = (&mut patch, more) {
            patch.extend(more);
        }
    }
    Some(patch)
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_should() {
        let patch = How::Repeat { count: 2 };
        let cases = [
            (409, How::Create, Outcome::Exists),
            (404, How::Create, Outcome::Hopeless),
            (404, How::Adopt, Outcome::Missing),
            (404, How::Turn, Outcome::Missing),
            (404, patch, Outcome::Missing),
            (409, patch, Outcome::Unreachable),
            (403, How::Create, Outcome::Refused),
            (403, patch, Outcome::Refused),
            (422, How::Create, Outcome::Hopeless),
            (401, How::Create, Outcome::Unreachable),
            (429, How::Create, Outcome::Unreachable),
            (500, patch, Outcome::Unreachable),
            (503, patch, Outcome::Unreachable),
        ];
        for (code, how, expected) in cases {
            let status = Status { code, ..Status::failure("no", "Some") };
            assert_eq!(refusal(&status, how), expected, "{code} {how:?}");
        }
        let terminating =
            json!({ "code": 403, "details": { "causes": [{ "reason": "NamespaceTerminating", "message": "", "field": "" }] } });
        let status: Status = serde_json::from_value(terminating).unwrap();
        assert_eq!(refusal(&status, How::Create), Outcome::Hopeless);
    }
}
