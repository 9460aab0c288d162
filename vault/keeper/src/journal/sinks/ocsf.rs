//! An entry as an OCSF 1.3 event: API Activity (class 6003), one line of JSON.
//!
//! What the schema has a place for stands there; the whole entry stands under `unmapped`, so that nothing is lost.

use serde_json::{Map, Value, json};
use strongroom_policy::moment::Moment;

/// Application Activity.
const CATEGORY: u64 = 6;
/// API Activity.
const CLASS: u64 = 6003;
/// `activity_id`: a call is none of create, read, update, delete.
const OTHER: u64 = 99;

/// The line of an entry.
pub(super) fn line(entry: &[u8]) -> Vec<u8> {
    let fields: Map<String, Value> = serde_json::from_slice(entry).unwrap_or_default();
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let what = text("what").unwrap_or("unknown");
    let user = text("user").map_or_else(
        || fields.get("operator").map(|uid| format!("uid:{uid}")).unwrap_or_default(),
        ToOwned::to_owned,
    );
    let (status, severity) = match (what, text("end")) {
        ("refuse" | "gap" | "stopped" | "lost", _) => (2, 3),
        ("close", Some(end)) if end != "complete" => (2, 2),
        _ => (1, 1),
    };
    let operation = match (text("method"), text("path")) {
        (Some(method), Some(path)) => format!("{method} {path}"),
        _ => text("act").unwrap_or(what).to_owned(),
    };
    let event = json!({
        "category_uid": CATEGORY,
        "class_uid": CLASS,
        "activity_id": OTHER,
        "activity_name": what,
        "type_uid": CLASS.saturating_mul(100).saturating_add(OTHER),
        "time": text("t").and_then(super::super::line::millis).map(Moment::unix_millis),
        "severity_id": severity,
        "status_id": status,
        "status_code": text("code").or(text("end")),
        "metadata": {
            "version": "1.3.0",
            "product": { "name": "Strongroom", "vendor_name": "Strongroom" },
            "uid": fields.get("n").map(ToString::to_string),
            "correlation_uid": text("call"),
        },
        "actor": { "user": { "uid": user }, "session": { "uid": text("token") } },
        "api": { "operation": operation, "service": { "name": text("provider") } },
        "src_endpoint": { "name": "strongroom" },
        "dst_endpoint": { "hostname": text("host") },
        "unmapped": fields,
    });
    let mut line = event.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::line;

    #[test]
    fn an_entry_is_an_event_with_everything_in_it() {
        let entry = br#"{"n":7,"t":"1970-01-01T00:00:01.5Z","what":"admit","call":"c","user":"u","token":"t","method":"POST","path":"/v1/x","provider":"openai"}"#;
        let event: Value = serde_json::from_slice(&line(entry)).unwrap();
        assert_eq!(event["class_uid"], 6003);
        assert_eq!(event["type_uid"], 600_399);
        assert_eq!(event["time"], 1500);
        assert_eq!(event["api"]["operation"], "POST /v1/x");
        assert_eq!(event["actor"]["user"]["uid"], "u");
        assert_eq!(event["metadata"]["correlation_uid"], "c");
        assert_eq!(event["unmapped"]["n"], 7);
        assert_eq!(event["status_id"], 1);
        let refused = br#"{"n":8,"what":"act","act":"token.create","operator":1000}"#;
        let event: Value = serde_json::from_slice(&line(refused)).unwrap();
        assert_eq!(event["actor"]["user"]["uid"], "uid:1000");
        assert_eq!(event["api"]["operation"], "token.create");
        assert!(line(b"rubbish").ends_with(b"\n"));
    }

    /// What a detection rule looks for: the numbers of the schema for a success, and for a failure of either weight.
    #[test]
    fn what_was_refused_or_broke_off_is_a_failure() {
        let weighed = |entry: &str| {
            let event: Value = serde_json::from_slice(&line(entry.as_bytes())).unwrap();
            (event["status_id"].as_u64().unwrap(), event["severity_id"].as_u64().unwrap())
        };
        for what in ["refuse", "gap", "stopped", "lost"] {
            assert_eq!(weighed(&format!(r#"{{"what":"{what}"}}"#)), (2, 3), "{what}");
        }
        assert_eq!(weighed(r#"{"what":"close","end":"complete"}"#), (1, 1));
        assert_eq!(weighed(r#"{"what":"close","end":"SR-UPSTREAM-005"}"#), (2, 2));
        assert_eq!(weighed(r#"{"what":"unseal"}"#), (1, 1));
    }
}
