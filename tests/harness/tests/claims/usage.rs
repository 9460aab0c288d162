//! Usage by user, token, credential, model and provider: LUM-05.
//!
//! Invariant: what was not told is counted as such, never as nothing.

use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::Appliance;
use strongroom_tests::speak::{Shape, say};

#[test]
fn lum_05_usage_is_told_by_user_token_credential_model_and_provider() {
    let (appliance, token) = Appliance::stocked();
    let second = appliance.token("second", &["--models", "model-a"]);
    let gate = appliance.gate();
    for api in Api::ALL {
        gate.call(&say(api, &token, "model-a", "one two three four", Shape::Plain)).is(200);
        gate.call(&say(api, &token, "model-b", "one two three four", Shape::Streamed)).is(200);
        gate.call(&say(api, &token, "emu-usage-missing", "one two", Shape::Plain)).is(200);
        gate.call(&say(api, &second, "model-a", "one two three four", Shape::Plain)).is(200);
        gate.call(&say(api, &second, "model-b", "one", Shape::Plain)).refused(403, "SR-POLICY-002");
    }
    appliance.journaled("every call is closed", |entries| {
        let closed = entries.iter().filter(|entry| entry["what"] == "close").count();
        (closed == 16).then_some(())
    });
    for (by, rows) in [("user", 1), ("token", 2), ("credential", 4), ("provider", 4), ("model", 3)]
    {
        let told = appliance.json(&["usage", "--by", by], b"");
        let usage = told["usage"].as_array().expect("rows");
        let sum = |name: &str| usage.iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
        assert_eq!((sum("calls"), sum("untold")), (16, 4), "{by}: {told}");
        assert!(usage.len() >= rows && sum("input") > 0 && sum("output") > 0, "{by}: {told}");
    }
    let told = appliance.json(&["usage", "--by", "token"], b"");
    let of = |label: &str| {
        let rows = told["usage"].as_array().expect("rows");
        rows.iter().find(|row| row["label"] == label).cloned().unwrap_or(Value::Null)
    };
    assert_eq!(
        (&of("second")["calls"], &of("second")["refused"]),
        (&Value::from(4), &Value::from(4)),
        "{told}"
    );
    assert_eq!(of("test")["calls"], 12, "{told}");
}
