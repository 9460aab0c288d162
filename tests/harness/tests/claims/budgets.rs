//! Budgets of money, tokens and calls that stop, through the real processes: LUM-05.
//!
//! Invariant: whatever happens to a call, its client or a process, nobody spends more than a hard budget has.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use strongroom_emulator::Api;
use strongroom_tests::speak::{Request, Shape, models, provider, say};
use strongroom_tests::{Appliance, Part, until};

/// A dollar for a million tokens in, ten for a million out, at most a thousand of them.
fn prices(appliance: &Appliance) {
    for api in Api::ALL {
        for model in ["m", "emu-*"] {
            let price = ["--input", "1", "--output", "10", "--max-input", "9000"];
            let command = [&["price", "set", provider(api), model], &price[..]].concat();
            appliance.json(&[&command[..], &["--max-output", "1000"]].concat(), b"");
        }
    }
}

/// The one budget of the one payer.
fn standing(appliance: &Appliance) -> Value {
    let told = appliance.json(&["budget", "show"], b"");
    told["budgets"][0]["budgets"][0].clone()
}

/// Of money, in millionths of a dollar.
fn micros(value: &Value) -> u64 {
    let text = value.as_str().expect("an amount");
    let (whole, places) = text.split_once('.').expect("a decimal");
    let number = |text: &str| text.parse::<u64>().expect("digits");
    number(whole) * 1_000_000 + number(&format!("{places:0<6}"))
}

/// Waits until nothing is reserved any more, and says what is spent.
fn spent(appliance: &Appliance) -> u64 {
    until("every call is settled", || {
        let standing = standing(appliance);
        let none = standing["reserved"] == 0 || standing["reserved"] == "0.00";
        let spent = &standing["spent"];
        none.then(|| spent.as_u64().unwrap_or_else(|| micros(spent)))
    })
}

/// Calls until the answer is not that the budget is being made ready.
fn call(appliance: &Appliance, request: &Request) -> strongroom_tests::Answer {
    until("the budget is ready", || {
        let answer = appliance.gate().call(request);
        if answer.refusal() == Some("SR-BUDGET-003") {
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
            return None;
        }
        Some(answer)
    })
}

#[test]
fn lum_05_a_spent_budget_stops_every_call_and_says_which_and_until_when() {
    let (appliance, token) = Appliance::stocked();
    appliance.json(&["budget", "set", "token:test", "--requests", "10", "--per", "day"], b"");
    for number in 1..=10 {
        let answer = call(&appliance, &models(Api::OpenAi, &token)).is(200);
        let warned = answer.header("x-strongroom-budget").map(ToOwned::to_owned);
        assert_eq!(warned.is_some(), number >= 8, "{number}: {warned:?}");
        if let Some(warned) = warned {
            let used = format!("token;unit=requests;per=day;used={number}0;turns=");
            assert!(warned.starts_with(&used), "{warned}");
        }
    }
    for api in Api::ALL {
        let refused = call(&appliance, &say(api, &token, "m", "hi", Shape::Plain));
        let refused = refused.refused(402, "SR-BUDGET-001");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        let text = refused.text();
        for part in ["the budget of requests of this token for a day", "T00:00:00Z", "operator"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let standing = standing(&appliance);
    assert_eq!((&standing["spent"], &standing["left"]), (&json!(10), &json!(0)), "{standing}");
    appliance.journaled("each refusal is recorded", |entries| {
        let refused = entries.iter().filter(|entry| entry["code"] == "SR-BUDGET-001").count();
        (refused == 4).then_some(())
    });
    appliance.json(&["budget", "set", "token:test", "--requests", "11", "--per", "day"], b"");
    call(&appliance, &models(Api::OpenAi, &token)).is(200);
    call(&appliance, &models(Api::OpenAi, &token)).refused(402, "SR-BUDGET-001");
    appliance.json(&["budget", "remove", "token:test", "--yes"], b"");
    call(&appliance, &models(Api::OpenAi, &token)).is(200);
}

/// Red when what is asked for is compared with what is settled alone.
#[test]
fn lum_05_parallel_calls_never_spend_more_than_a_budget_has() {
    let (appliance, token) = Appliance::stocked();
    appliance.json(&["budget", "set", "tenant", "--requests", "7", "--per", "day"], b"");
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let request = say(Api::OpenAi, &token, "emu-slow-first-300", "hi", Shape::Plain);
                let answer = call(&appliance, &request);
                if answer.status == 200 {
                    passed.fetch_add(1, Ordering::Relaxed);
                } else {
                    answer.refused(402, "SR-BUDGET-001");
                }
            });
        }
    });
    assert_eq!(passed.load(Ordering::Relaxed), 7);
    assert_eq!(spent(&appliance), 7);
}

#[test]
fn lum_05_what_a_call_cost_is_told_by_whom_and_by_what() {
    let (appliance, token) = Appliance::stocked();
    prices(&appliance);
    appliance.json(&["budget", "set", "user:operator", "--money", "1", "--per", "month"], b"");
    for api in Api::ALL {
        call(&appliance, &say(api, &token, "m", "one two three", Shape::Plain)).is(200);
    }
    call(&appliance, &say(Api::OpenAi, &token, "unpriced", "hi", Shape::Plain))
        .refused(403, "SR-BUDGET-002");
    let spent = spent(&appliance);
    let closed = appliance.journaled("every call is closed", |entries| {
        let closed: Vec<_> =
            entries.iter().filter(|entry| entry["what"] == "close").cloned().collect();
        (closed.len() == 4).then_some(closed)
    });
    let mut sum = 0;
    for entry in closed {
        let number = |name: &str| entry[name].as_u64().unwrap_or(0);
        // xAI tells its own price.
        if entry.get("cost_ticks").is_none() {
            assert_eq!(number("cost"), number("input") + 10 * number("output"), "{entry}");
        }
        sum += number("cost");
    }
    assert_eq!(spent, sum);
    for by in ["user", "token", "credential", "workspace", "model", "provider"] {
        let told = appliance.json(&["usage", "--by", by], b"");
        let rows = told["usage"].as_array().expect("rows");
        let costs: u64 = rows.iter().map(|row| micros(&row["cost"])).sum();
        assert_eq!(costs, sum, "{by}: {told}");
    }
}

/// Red when what was cut costs what came through, or when a courier that is lost gives its calls back.
#[test]
fn lum_05_cut_and_lost_calls_are_settled_in_full_and_unmade_ones_are_given_back() {
    let (appliance, token) = Appliance::stocked();
    prices(&appliance);
    appliance.json(&["budget", "set", "token:test", "--money", "5", "--per", "day"], b"");
    let streamed = |model: &str| say(Api::OpenAi, &token, model, "hi", Shape::Streamed);
    let bound_of_output = 1000 * 10;
    let mut before = spent(&appliance);
    let mut grown = |what: &str, least: u64| {
        let now = spent(&appliance);
        assert!(now >= before + least, "{what}: {before} {now}");
        assert!(least > 0 || now == before, "{what}: {before} {now}");
        before = now;
    };
    // The caller goes away.
    let gone = |model: &str| {
        until("the budget is ready", || {
            let mut connection = appliance.gate().connect().expect("it listens");
            let bytes = streamed(model).bytes(connection.host());
            connection.send(&bytes).expect("it reads");
            let (status, _, _) = connection.head().ok()?;
            (status == 200).then_some(connection)
        })
    };
    gone("emu-paced-50-200").drop_now();
    grown("a caller that went away", bound_of_output);
    // The provider breaks off.
    call(&appliance, &streamed("emu-cut-2"));
    grown("a provider that broke off", bound_of_output);
    call(&appliance, &streamed("emu-usage-missing")).is(200);
    grown("usage that was not told", bound_of_output);
    // The courier dies.
    let kept = gone("emu-paced-50-200");
    let killed = appliance.kill(Part::Courier);
    until("another courier is there", || appliance.pid(Part::Courier).filter(|pid| *pid != killed));
    appliance.wait_ready();
    drop(kept);
    grown("a courier that was lost", bound_of_output);
    // The provider refuses, and nobody is charged.
    call(&appliance, &say(Api::OpenAi, &token, "emu-status-429", "hi", Shape::Plain)).is(429);
    grown("a provider that refused", 0);
    // No courier: it is not made.
    let standing = standing(&appliance);
    assert_eq!(standing["reserved"], "0.00", "{standing}");
}

/// Red when a start begins at less than the lease, and when a closing vault does not write the exact figures.
#[test]
fn lum_05_no_death_of_the_keeper_gives_anything_back_and_a_seal_is_exact() {
    let (appliance, token) = Appliance::stocked();
    let limit = 400;
    let amount = limit.to_string();
    appliance.json(&["budget", "set", "user:operator", "--requests", &amount, "--per", "day"], b"");
    let mut sent = 0;
    for _ in 0..3 {
        for _ in 0..20 {
            call(&appliance, &models(Api::Gemini, &token)).is(200);
            sent += 1;
        }
        let killed = appliance.kill(Part::Keeper);
        until("another keeper is there", || {
            appliance.pid(Part::Keeper).filter(|pid| *pid != killed)
        });
        appliance.wait_state("sealed");
        appliance.unseal();
        appliance.wait_ready();
        let counted = spent(&appliance);
        assert!(counted >= sent, "{counted} of {sent}");
        // Sixteen calls ahead, each time.
        assert!(counted <= sent + 3 * 48, "{counted} of {sent}");
        sent = counted;
    }
    for _ in 0..5 {
        call(&appliance, &models(Api::Gemini, &token)).is(200);
    }
    let exact = spent(&appliance);
    assert_eq!(exact, sent + 5);
    appliance.cli(&["seal"], b"").ok();
    appliance.unseal();
    appliance.wait_ready();
    assert_eq!(spent(&appliance), exact);
    let left = limit - exact;
    let mut passed = 0;
    while call(&appliance, &models(Api::Gemini, &token)).status == 200 {
        passed += 1;
    }
    assert_eq!(passed, left);
}

#[test]
fn lum_05_a_rate_of_a_person_or_a_credential_says_when_to_come_again() {
    let (appliance, token) = Appliance::stocked();
    appliance.json(&["budget", "set", "user:operator", "--rate", "3"], b"");
    for _ in 0..3 {
        appliance.gate().call(&models(Api::Xai, &token)).is(200);
    }
    let refused = appliance.gate().call(&models(Api::Xai, &token)).refused(429, "SR-RATE-001");
    let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("it");
    assert!((1..=21).contains(&wait), "{wait}");
    assert!(refused.text().contains("the rate of this user"), "{}", refused.text());
    appliance.json(&["budget", "remove", "user:operator", "--rate", "--yes"], b"");
    appliance.gate().call(&models(Api::Xai, &token)).is(200);
    appliance.json(&["budget", "set", "credential:openai", "--rate", "1"], b"");
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    appliance.gate().call(&models(Api::OpenAi, &token)).refused(429, "SR-RATE-001");
    appliance.gate().call(&models(Api::Xai, &token)).is(200);
}

#[test]
fn lum_05_prices_are_edited_as_text_and_checked_as_a_whole() {
    let (appliance, _) = Appliance::stocked();
    let before = appliance.json(&["price", "list"], b"");
    assert_eq!(before["author"], "program");
    let text = appliance.cli(&["price", "export"], b"").ok().stdout;
    let file = appliance.scratch().join("prices.toml");
    let path = file.display().to_string();
    std::fs::write(&file, text.replacen("input = \"5.00\"", "input = \"6.00\"", 1))
        .expect("written");
    appliance.json(&["price", "import", &path], b"");
    let after = appliance.json(&["price", "list"], b"");
    assert_eq!((&after["author"], &after["date"]), (&json!("operator"), &Value::Null));
    assert_ne!(after["prices"], before["prices"]);
    std::fs::write(&file, format!("{text}\n{text}")).expect("written");
    assert_ne!(appliance.cli(&["price", "import", &path], b"").code, 0);
    assert_eq!(appliance.json(&["price", "list"], b"")["prices"], after["prices"]);
    appliance.json(&["price", "import", "--defaults"], b"");
    assert_eq!(appliance.json(&["price", "list"], b"")["prices"], before["prices"]);
}
