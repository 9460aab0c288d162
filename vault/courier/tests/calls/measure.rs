//! What a call costs the courier. Run by hand, optimised:
//! `cargo test --release -p strongroom-courier --test calls measure -- --ignored --nocapture --test-threads 1`.
#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scene::{Day, Scene, chat, streamed};

const CALLS: u32 = 4000;

/// User and system time of a process: fields 14 and 15 of proc(5), in ticks of 10 ms.
fn cpu(pid: u32) -> (Duration, Duration) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| Duration::from_millis(fields[at].parse::<u64>().unwrap() * 10);
    (ticks(11), ticks(12))
}

async fn measure(threads: &str, lanes: u32, body: &str) {
    let scene = Arc::new(
        Scene::start_on(Day::Measured, &["--gateway-uid", "0", "--threads", threads]).await,
    );
    let pid = scene.courier.id();
    let mut warm = scene.lane().await;
    for _ in 0..20 {
        assert_eq!(scene.call(&mut warm, body).await.0.ending, Ok(()));
    }
    let (begun, before) = (Instant::now(), cpu(pid));
    let mut tasks = Vec::new();
    for _ in 0..lanes {
        let (scene, body) = (Arc::clone(&scene), body.to_owned());
        tasks.push(tokio::spawn(async move {
            let mut lane = scene.lane().await;
            for _ in 0..CALLS / lanes {
                assert_eq!(scene.call(&mut lane, &body).await.0.ending, Ok(()));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (elapsed, after) = (begun.elapsed(), cpu(pid));
    println!(
        "threads {threads}, lanes {lanes}: {:?} a call wall, {:?} user, {:?} system",
        elapsed / CALLS,
        after.0.saturating_sub(before.0) / CALLS,
        after.1.saturating_sub(before.1) / CALLS
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_plain_calls_and_bursts() {
    for threads in ["1", "2"] {
        for lanes in [1, 16] {
            for body in [chat("bench-plain", "hi"), streamed("bench-burst")] {
                println!("{body:.24}");
                measure(threads, lanes, &body).await;
            }
        }
    }
}
