//! What a write costs: many operators at once, through the whole keeper; and how often it asks the disk.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use strongroom_protocol::operator::{Answer, Request};

use crate::keeper::Keeper;
use crate::{furnish, label};

/// Counts the keeper's syncs, where the tool for it is installed.
struct Counter {
    child: Child,
    place: tempfile::NamedTempFile,
}

impl Counter {
    fn attach(pid: &str) -> Option<Self> {
        let place = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", "trace=fsync,fdatasync", "-o"]).arg(place.path());
        command.args(["-p", pid]).stderr(Stdio::null());
        Some(Self { child: command.spawn().ok()?, place })
    }

    /// How many there were. Attaching takes a moment: the writes before it are not counted.
    fn syncs(mut self) -> usize {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        let told = std::fs::read_to_string(self.place.path()).unwrap();
        told.lines().filter(|line| line.contains("sync(")).count()
    }
}

/// Makes people, and answers in how many milliseconds.
fn write(keeper: &Keeper, (writers, each): (usize, usize), name: &str) -> u128 {
    let begun = Instant::now();
    thread::scope(|scope| {
        for writer in 0..writers {
            let mut door = keeper.operator();
            scope.spawn(move || {
                for number in 0..each {
                    let user = Request::UserCreate(label(&format!("{name}-{writer}-{number}")));
                    let answer = door.request(&user);
                    assert!(matches!(answer, Answer::User(_)), "{answer:?}");
                }
            });
        }
    });
    begun.elapsed().as_millis().max(1)
}

#[test]
fn many_operators_who_write_at_once_are_all_answered() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let each = strongroom_soak::size(1, 8);
    for writers in [1, 64] {
        let many = if writers == 1 { each * 64 } else { each };
        let count = writers * many;
        let took = write(&keeper, (writers, many), &format!("w{writers}"));
        let speed = u128::try_from(count).unwrap() * 1000 / took;
        strongroom_soak::tell("journal", &format!("writes a second, {writers} writers"), speed);
    }
    if let Some(counter) = Counter::attach(&keeper.pid()) {
        // The first is not counted for certain, so it is no part of what is divided by.
        thread::sleep(std::time::Duration::from_secs(1));
        write(&keeper, (1, each * 64), "counted");
        let tenths = counter.syncs() * 10 / (each * 64);
        let figure = format!("{}.{}", tenths / 10, tenths % 10);
        strongroom_soak::tell("journal", "syncs for a write, 1 writer", figure);
    }
    assert!(
        matches!(keeper.operator().request(&Request::UserList), Answer::Users(all) if all.len() > 2 * 64 * each)
    );
}
