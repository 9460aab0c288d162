//! Sinks that work, are taken away, are full and stall.

use std::fs;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::super::place::Place;
use super::super::reserve::LastWords;
use super::super::shared::Shared;
use super::*;

fn bundle(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in numbers {
        let entry =
            format!("{{\"n\":{n},\"t\":\"1970-01-01T00:00:00Z\",\"what\":\"strangers\"}}\n");
        strongroom_tlog::bundle::push_entry(&mut bytes, entry.as_bytes()).unwrap();
    }
    bytes
}

fn sinks(wish: &str) -> Sinks {
    let open = wish.parse::<SinkWish>().unwrap().open().unwrap();
    Sinks::start(&[open]).unwrap()
}

/// Within a second, says the documentation; what a loaded machine's scheduler adds is no part of that, and not there each time.
fn one_of_three_is_prompt(mut attempt: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    while times.iter().all(|took| *took >= Duration::from_secs(2)) {
        assert!(times.len() < 3, "{times:?}");
        times.push(attempt());
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_gets_a_line_for_each_entry_and_its_loss_stops_service() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("audit.ocsf");
    let sinks = sinks(&format!("ocsf,required,{}", path.display()));
    sinks.tell(&bundle(1..4));
    until("three lines", || fs::read_to_string(&path).unwrap().lines().count() == 3);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    assert_eq!(sinks.health(), Ok(()));
    one_of_three_is_prompt(|| {
        fs::rename(&path, scratch.path().join("rotated")).unwrap();
        let taken = Instant::now();
        until("the loss is seen", || sinks.health() == Err(JournalError::Sink));
        let took = taken.elapsed();
        assert!(sinks.each()[0].fails.as_ref().unwrap().contains("taken away"));
        assert_eq!(sinks.changes().len(), 1);
        assert!(sinks.changes().is_empty());
        fs::rename(scratch.path().join("rotated"), &path).unwrap();
        until("it is back", || sinks.health() == Ok(()));
        assert_eq!(sinks.changes()[0].1, SinkState::Takes);
        took
    });
}

// Red when the mode is left to `open`, whose umask takes the group's part away.
#[test]
fn a_file_that_is_made_is_for_its_group_whatever_the_umask_and_one_that_is_there_stays_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        let path = scratch.path().join(name);
        let wish = format!("ocsf,required,{}", path.display());
        drop(wish.parse::<SinkWish>().unwrap().open().unwrap());
        fs::metadata(&path).unwrap().permissions().mode() & 0o777
    };
    let usual = nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let made = mode("made");
    nix::sys::stat::umask(usual);
    assert_eq!(made, 0o640);
    fs::write(scratch.path().join("there"), b"").unwrap();
    fs::set_permissions(scratch.path().join("there"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(mode("there"), 0o600);
}

// Red when a required sink is not waited for, or when telling waits for it.
#[test]
fn a_pipe_that_nobody_empties_stops_service_within_a_second_and_holds_up_nobody() {
    one_of_three_is_prompt(|| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("pipe");
        mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        let wish = format!("ocsf,required,{}", path.display());
        assert!(wish.parse::<SinkWish>().unwrap().open().is_err(), "nobody reads");
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let sinks = sinks(&wish);
        let begun = Instant::now();
        // The quickest of five: one that waits does so each time, one that is only held up by the machine does not.
        let quickest = (0..5).map(|_| {
            let told = Instant::now();
            sinks.tell(&bundle(0..2000));
            told.elapsed()
        });
        let quickest = quickest.min().unwrap();
        assert!(quickest < SINK_PATIENCE, "telling waits: {quickest:?}");
        until("it is stuck", || sinks.health() == Err(JournalError::Sink));
        let took = begun.elapsed();
        std::thread::spawn(move || io::copy(&mut &reader, &mut io::sink()));
        until("it goes on", || sinks.health() == Ok(()));
        assert_eq!(sinks.each()[0].lost, 0);
        took
    });
}

#[test]
fn an_optional_sink_stops_nothing_and_counts_what_it_did_not_get() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("pipe");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let sinks = sinks(&format!("ocsf,optional,{}", path.display()));
    let group = bundle(0..10);
    for _ in 0..QUEUE_GROUPS + 200 {
        sinks.tell(&group);
    }
    until("it is stuck", || sinks.each()[0].fails.is_some());
    assert_eq!(sinks.health(), Ok(()));
    assert!(sinks.each()[0].lost > 0);
}

#[test]
fn a_log_socket_gets_a_datagram_for_each_entry() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let log = UnixDatagram::bind(&path).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sinks = sinks(&format!("syslog,required,{}", path.display()));
    sinks.tell(&bundle(1..3));
    let mut buffer = [0; 512];
    for n in 1..3 {
        let length = log.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        assert!(
            text.starts_with("<108>1 1970-01-01T00:00:00Z - strongroom - strangers - "),
            "{text}"
        );
        assert!(text.contains(&format!("\"n\":{n},")), "{text}");
    }
    drop(log);
    sinks.tell(&bundle(3..4));
    until("the loss is seen", || sinks.health() == Err(JournalError::Sink));
}

#[test]
fn a_device_without_room_stops_service() {
    let sinks = sinks("ocsf,required,/dev/full");
    sinks.tell(&bundle(1..2));
    until("it fails", || sinks.health() == Err(JournalError::Sink));
    assert!(sinks.each()[0].fails.as_ref().unwrap().contains("No space"));
}

// Red when half a line that was left is not ended before the next one, or a whole one gets an empty line after it.
#[test]
fn a_line_that_was_broken_off_stands_alone_and_is_told_again_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("pipe");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let room = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    assert_eq!(room, 4096);
    let file = open_file(&path).unwrap();
    let mut target = Target::File { file, begun: false };
    let line = |byte: u8, length: usize| [vec![byte; length - 1], vec![b'\n']].concat();
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        bytes
    };
    target.put(&line(b'a', 3000)).unwrap();
    // Nothing of it fits: what comes next begins where it would have.
    assert_eq!(target.put(&line(b'b', 3000)).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(read(3000), line(b'a', 3000));
    target.put(&line(b'b', 3000)).unwrap();
    assert_eq!(read(3000), line(b'b', 3000));
    // A part fits.
    assert!(target.put(&line(b'c', 6000)).is_err());
    assert_eq!(read(4096), vec![b'c'; 4096]);
    target.put(&line(b'd', 10)).unwrap();
    assert_eq!(read(11), [b"\n".to_vec(), line(b'd', 10)].concat());
    target.put(&line(b'e', 10)).unwrap();
    assert_eq!(read(10), line(b'e', 10));
}

// Red when a vault that is sealed leaves the thread of a sink behind that nobody empties.
#[test]
fn the_thread_of_a_sink_that_is_stuck_ends_with_the_journal() {
    let sinks = sinks("ocsf,required,/dev/full");
    sinks.tell(&bundle(1..2));
    until("it fails", || sinks.health() == Err(JournalError::Sink));
    let state = Arc::downgrade(&sinks.0[0].state);
    drop(sinks);
    until("its thread has ended", || state.strong_count() == 0);
}

// Red when an entry that one sink does not get in time is not said in the reserve, or an optional one's is.
#[test]
fn what_stops_service_is_said_in_the_reserve() {
    for (need, said) in [("required", 1), ("optional", 0)] {
        let scratch = tempfile::tempdir().unwrap();
        let place = Place::new(scratch.path());
        let (words, _) = LastWords::open(&place).unwrap();
        let tail = Arc::new(tempfile::tempfile().unwrap());
        let edge = strongroom_tlog::Edge::empty();
        let shared = Shared::new(edge, tail, words, sinks(&format!("ocsf,{need},/dev/full")));
        assert!(shared.sink_changes().is_empty());
        shared.tell_sinks(&bundle(1..2));
        until("it fails", || shared.sinks().each()[0].fails.is_some());
        let changes = shared.sink_changes();
        assert_eq!(changes, [("ocsf /dev/full".to_owned(), SinkState::Fails, 0)]);
        assert_eq!(shared.serves().is_err(), said == 1);
        // Said after it, and so kept after it.
        shared.stop("the disk is full");
        until("all is said", || shared.words().kept() > said);
        let (_, found) = LastWords::open(&place).unwrap();
        let sink = found.iter().filter(|one| one.reason == "a required sink takes no entries");
        assert_eq!(sink.count() as u64, said);
    }
    // One that takes entries again stops nothing, and neither does an optional one beside a required one.
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("audit");
    let wishes =
        [format!("ocsf,required,{}", path.display()), "ocsf,optional,/dev/full".to_owned()];
    let open = wishes.map(|wish| wish.parse::<SinkWish>().unwrap().open().unwrap());
    let sinks = Sinks::start(&open).unwrap();
    sinks.tell(&bundle(1..2));
    until("one fails", || sinks.each()[1].fails.is_some());
    assert_eq!(sinks.health(), Ok(()));
    until("the other takes", || fs::read_to_string(&path).unwrap().lines().count() == 1);
}

#[test]
fn a_sink_is_wished_for_by_kind_need_and_an_absolute_path() {
    let wish = "syslog,optional,/run/log,a".parse::<SinkWish>().unwrap();
    let path = PathBuf::from("/run/log,a");
    assert_eq!(wish, SinkWish { kind: SinkKind::Syslog, need: Need::Optional, path });
    for bad in ["", "syslog", "syslog,required", "syslog,required,log", "x,required,/log"] {
        assert_eq!(bad.parse::<SinkWish>(), Err(BadSink), "{bad}");
    }
    assert_eq!("ocsf,never,/log".parse::<SinkWish>(), Err(BadSink));
    let away = "ocsf,required,/nowhere/log".parse::<SinkWish>().unwrap();
    assert_eq!(away.open().unwrap_err().kind(), io::ErrorKind::NotFound);
}

// Red when a sink that fell behind looks well, or one that was told everything looks stuck.
#[test]
fn a_sink_is_stuck_when_a_group_waits_for_longer_than_its_patience() {
    let state = State::since(Instant::now().checked_sub(Duration::from_secs(10)).unwrap());
    assert!(!state.is_stuck(), "nothing waits");
    state.comes();
    state.comes();
    let since = state.waiting.load(Ordering::Acquire);
    assert!(since > 10_000, "{since}");
    state.waiting.store(since - 5_000, Ordering::Release);
    assert!(state.is_stuck());
    state.comes();
    assert!(state.is_stuck(), "the first still waits");
    state.is_told();
    assert!(state.waiting.load(Ordering::Acquire) >= since, "the second waits from now on");
    state.is_told();
    state.is_told();
    assert_eq!(state.waiting.load(Ordering::Acquire), 0);
    assert!(!state.is_stuck());
    state.fail("no room");
    assert!(state.is_stuck());
    state.work();
    assert!(!state.is_stuck());
}

// Red when the mark is made after the group is queued: it may be told by then, and the mark stays.
#[test]
fn nothing_is_left_marked_when_all_is_told_however_close_the_threads_come() {
    let state = Arc::new(State::since(Instant::now()));
    let (queue, groups) = sync_channel(QUEUE_GROUPS);
    let sink = Sink { name: String::new(), need: Need::Required, queue, state: Arc::clone(&state) };
    let telling = Arc::clone(&state);
    let thread =
        std::thread::spawn(move || groups.iter().for_each(|_: Arc<[u8]>| telling.is_told()));
    let group: Arc<[u8]> = bundle(0..1).into();
    for turn in 0..20_000 {
        sink.tell(&group);
        if turn % 3 == 0 {
            until("all is told", || state.queued.load(Ordering::Acquire) == 0);
            until("no mark is left", || state.waiting.load(Ordering::Acquire) == 0);
        }
    }
    drop(sink);
    thread.join().unwrap();
    assert_eq!(state.waiting.load(Ordering::Acquire), 0);
}
