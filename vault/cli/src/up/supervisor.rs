//! Watching the processes: starts again what ended, and stops all in their order.
//!
//! Invariant: a process that keeps ending is started ever more slowly, up to every 5 s.
//! Invariant: a keeper that was started again is sealed, and that is said aloud.
//! Invariant: a keeper that ended by an operator's seal is not opened unattended: whoever takes an exit status here judges it, and
//! this process ends only after the mark of such a seal.
//! Invariant: nothing here waits for the TPM helper.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use strongroom_policy::provider::Origin;
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::{PANIC_EXIT, SEAL_EXIT};

use crate::backup::schedule::Clock;
use crate::failure::{Code, Failure, Outcome};
use crate::link::Link;
use crate::out;
use crate::render;
use crate::status;
use crate::tpm;
use crate::up::first::{self, Vault, waits};
use crate::up::ground::Ground;
use crate::up::held::Held;
use crate::up::launch::{self, Heard, NotStarted, Started};
use crate::up::role::Role;
use crate::up::signals::{Signals, Woken};
use crate::up::tell;

/// All processes and what they stand on.
#[derive(Debug)]
pub(crate) struct Supervisor {
    ground: Ground,
    signals: Signals,
    posts: Vec<Post>,
    backups: Clock,
    held: Held,
    /// Since when it was last looked whether the witness that is waited for has answered, while one is.
    waits: Option<Instant>,
    /// When the gateway is to be started anew, and when it last was for that reason.
    renewal: Option<Instant>,
    renewed: Option<Instant>,
}

/// One process, running or due.
#[derive(Debug)]
struct Post {
    role: Role,
    child: Option<Child>,
    /// Where a process that nobody waited for says that it is ready.
    ready: Option<File>,
    since: Instant,
    backoff: Duration,
    due: Instant,
}

/// A process that ended, and how, if that could be seen.
type End = (Role, Option<ExitStatus>);

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// A process that ran this long is healthy: its next end is a new story.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// A process that has not stopped by itself by then is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// How long the gateway lets calls go on that are under way: `DRAIN_WAIT` in `gateway/src/listener.rs`. Deadlines of
/// calls are longer, but whoever stops the appliance does not wait for them.
const CALLS_END_WITHIN: Duration = Duration::from_secs(5);
/// Between two such renewals of the gateway.
const RENEWED_EVERY: Duration = Duration::from_secs(30);
/// Between two looks at a vault that waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Nothing is waited for longer: what would not be noticed otherwise is noticed then.
const LONGEST: Duration = Duration::from_mins(1);
/// A signal so soon after the first is the same wish told twice: a terminal that closes, a wrapper that repeats.
const HURRY_AFTER: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Nothing runs yet.
    pub(crate) const fn new(ground: Ground, signals: Signals) -> Self {
        let held = Held::Written;
        Self {
            ground,
            signals,
            posts: Vec::new(),
            backups: Clock::new(),
            held,
            waits: None,
            renewal: None,
            renewed: None,
        }
    }

    /// What the processes stand on.
    pub(crate) const fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Whether somebody wants the end already, before the watch began.
    pub(crate) fn is_told_to_stop(&self) -> Outcome<bool> {
        Ok(self.signals.wait(Duration::ZERO)? == Woken::Stop)
    }

    /// Starts a process for the first time.
    pub(crate) fn start(&mut self, role: Role) -> Outcome {
        let started = launch::start(role, &self.ground, &self.signals)
            .map_err(|refused| self.refused(role, refused))?;
        let mut post = Post::new(role);
        post.run(started);
        self.posts.push(post);
        Ok(())
    }

    /// Starts a process for the first time that the others do without: what fails is said, and tried again later.
    pub(crate) fn start_or_warn(&mut self, role: Role) {
        let mut post = Post::new(role);
        match launch::start(role, &self.ground, &self.signals) {
            Ok(started) => post.run(started),
            Err(refused) => {
                out::warn(&self.refused(role, refused).to_string());
                post.retreat(Instant::now());
            }
        }
        self.posts.push(post);
    }

    /// Watches until somebody wants the end.
    pub(crate) fn watch(&mut self) -> Outcome {
        let mut next = Instant::now();
        while self.signals.wait_until(next, &self.not_ready())? == Woken::Look
            && !self.signals.is_end_wanted()
        {
            let ends: Vec<_> = self.posts.iter_mut().filter_map(Post::look).collect();
            for end in ends {
                self.judge(end);
            }
            let tried = self.start_what_is_due()?;
            self.renew_the_gateway();
            self.look_for_the_witness();
            self.backups.tick(&self.ground.places, self.ground.settings.backup.as_ref());
            // A start takes a while, and takes the signals of that time.
            next = if tried { Instant::now() } else { self.next_look() };
        }
        Ok(())
    }

    /// Where processes that nobody waits for will say that they are ready.
    fn not_ready(&self) -> Vec<BorrowedFd<'_>> {
        self.posts.iter().filter_map(|post| post.ready.as_ref()).map(File::as_fd).collect()
    }

    /// When there is something to do although nothing happens until then.
    fn next_look(&self) -> Instant {
        let starts = self.posts.iter().filter(|post| self.may_run(post)).map(|post| post.due);
        let witness = self.waits.map(|looked| looked + LOOK_EVERY);
        let backup = self.ground.settings.backup.as_ref().map(|_| self.backups.next());
        let longest = Instant::now() + LONGEST;
        starts.chain(witness).chain(backup).chain(self.renewal).fold(longest, Instant::min)
    }

    /// The vault is open and makes no call yet: the end of that is said.
    pub(crate) fn wait_for_the_witness(&mut self) {
        self.waits = Some(Instant::now());
    }

    /// Says it once when the wait is over; a vault that was closed meanwhile waits no more.
    fn look_for_the_witness(&mut self) {
        if self.waits.is_none_or(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.waits = Some(Instant::now());
        let socket = self.ground.places.operator_socket();
        // A keeper that does not answer now does at the next look.
        let Ok(found) = first::look(&socket) else { return };
        if waits(&found) {
            return;
        }
        self.waits = None;
        if found.state == VaultState::Ready {
            tell::ready(&self.ground);
        }
    }

    /// Notes an operator's seal.
    fn judge(&mut self, end: End) {
        if by_operator(end) {
            out::warn("the keeper ended by an operator's seal: look why before you unseal it");
            self.held.note(&self.ground.places.vault());
        }
    }

    fn refused(&mut self, role: Role, refused: NotStarted) -> Failure {
        self.judge((role, refused.ended));
        refused.failure
    }

    /// Whether any start was tried. Only a refusal of the store ends the watch: all else is tried again.
    fn start_what_is_due(&mut self) -> Outcome<bool> {
        let mut tried = false;
        for index in 0..self.posts.len() {
            let Some(role) = self.due(index) else { continue };
            tried = true;
            let started = self.start_again(role);
            let Some(post) = self.posts.get_mut(index) else { continue };
            match started {
                Ok(started) => {
                    post.run(started);
                    if post.ready.is_none() {
                        out::say(&format!("the {} runs again", role.name()));
                    }
                    self.has_started(role);
                }
                Err(failure) if failure.code == Code::Store.text() => return Err(failure),
                Err(failure) => {
                    out::warn(&failure.to_string());
                    post.retreat(Instant::now());
                }
            }
        }
        Ok(tried)
    }

    /// What a process that was started again asks for.
    fn has_started(&mut self, role: Role) {
        match role {
            Role::Keeper => self.tell_of_the_vault(),
            // A gateway cannot dial it; one that is started anew does.
            Role::Courier(Origin::Operator) => {
                let earliest = self.renewed.map_or(Instant::now(), |last| last + RENEWED_EVERY);
                self.renewal = Some(earliest);
            }
            Role::Gateway => self.renewal = None,
            Role::Tpm | Role::Emulator | Role::Courier(Origin::BuiltIn) => {}
        }
    }

    /// Ends a gateway that has no lanes to the courier of operator-defined providers; it is started again at once. Calls under way
    /// have their time, and a courier that keeps ending costs the others no more than that each [`RENEWED_EVERY`].
    fn renew_the_gateway(&mut self) {
        if self.renewal.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.renewal = None;
        let gateway = self.posts.iter().find(|post| post.role == Role::Gateway);
        let Some(child) = gateway.and_then(|post| post.child.as_ref()) else { return };
        self.renewed = Some(Instant::now());
        let (courier, seconds) =
            (Role::Courier(Origin::Operator).name(), CALLS_END_WITHIN.as_secs());
        out::say(&format!(
            "the gateway is started anew, to reach the {courier}; calls under way have {seconds} s"
        ));
        // It may have ended by itself.
        let _gone = i32::try_from(child.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
    }

    fn start_again(&mut self, role: Role) -> Outcome<Started> {
        if role == Role::Gateway {
            self.ground.listen_again()?;
        }
        launch::start(role, &self.ground, &self.signals)
            .map_err(|refused| self.refused(role, refused))
    }

    /// Says what came of a keeper that was started again.
    fn tell_of_the_vault(&mut self) {
        match self.opened_by_tpm() {
            Vault::Open => {}
            Vault::Waiting => {
                tell::waiting(&self.ground);
                self.wait_for_the_witness();
            }
            Vault::Sealed | Vault::Empty | Vault::Provisional => tell::sealed(&self.ground),
        }
    }

    /// A keeper that was started again is opened by the TPM, where the settings say so.
    fn opened_by_tpm(&mut self) -> Vault {
        if self.held.holds() {
            return Vault::Sealed;
        }
        let socket = self.ground.places.operator_socket();
        let Ok(mut link) = Link::open(&socket) else { return Vault::Sealed };
        tpm::unseal_unattended(&mut link, &self.ground.settings);
        match status::ask(&mut link) {
            Ok(found) if waits(&found) => Vault::Waiting,
            Ok(found) if found.state == VaultState::Ready => Vault::Open,
            Ok(_) | Err(_) => Vault::Sealed,
        }
    }

    /// The role at `index` if it does not run, its time has come, and what it needs runs.
    fn due(&self, index: usize) -> Option<Role> {
        let post = self.posts.get(index)?;
        (self.may_run(post) && post.due <= Instant::now()).then_some(post.role)
    }

    /// Whether a process does not run, and what it needs does.
    fn may_run(&self, post: &Post) -> bool {
        let runs =
            |role: &Role| self.posts.iter().any(|post| post.role == *role && post.child.is_some());
        post.child.is_none() && post.role.needs().iter().all(runs)
    }

    /// Stops all: whoever is talked to from outside first, the keeper last. A further signal hurries all but the keeper.
    /// Fails when an operator sealed the vault and the disk does not take the mark of it.
    pub(crate) fn stop(&mut self) -> Outcome {
        let asked = Instant::now();
        let ends: Vec<_> = self.posts.iter_mut().filter_map(Post::ended).collect();
        for end in ends {
            self.judge(end);
        }
        self.posts.sort_by_key(|post| post.role);
        if self.posts.iter().any(|post| post.role == Role::Gateway && post.child.is_some()) {
            let seconds = CALLS_END_WITHIN.as_secs();
            out::say(&format!(
                "stopping; calls under way have up to {seconds} s, Control-C again stops at once"
            ));
        }
        let mut patience = STOPPED_WITHIN;
        while let Some(mut post) = self.posts.pop() {
            let Some(child) = post.child.take() else { continue };
            // Nobody waits for the keeper's calls any more, and its journal is to reach the disk.
            let own = if post.role == Role::Keeper { STOPPED_WITHIN } else { patience };
            let (woken, status) = self.end(post.role, child, (asked, own));
            self.judge((post.role, status));
            if woken == Woken::Stop {
                patience = Duration::ZERO;
            }
        }
        self.held.settle(&self.ground.places.vault())
    }

    /// Ends a process, within `patience` by itself, and tells whether somebody wants the end at once, and how it ended.
    fn end(
        &self,
        role: Role,
        mut child: Child,
        (asked, patience): (Instant, Duration),
    ) -> (Woken, Option<ExitStatus>) {
        // It may have ended by itself.
        let _gone = i32::try_from(child.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
        let begun = Instant::now();
        let mut woken = Woken::Look;
        while begun.elapsed() < patience && woken == Woken::Look {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return (woken, Some(status)),
                Err(_) => return (woken, None),
            }
            let told = self.signals.wait(Duration::from_millis(20)).unwrap_or(Woken::Look);
            // The keeper writes its last entries, and gives up by itself when the disk does not take them.
            if role != Role::Keeper && asked.elapsed() >= HURRY_AFTER {
                woken = told;
            }
        }
        if woken == Woken::Look && !patience.is_zero() {
            out::warn(&format!("the {} did not stop by itself", role.name()));
        }
        let _gone = child.kill();
        (woken, child.wait().ok())
    }
}

/// Whether a process ended because an operator sealed the vault.
fn by_operator((role, status): End) -> bool {
    let code = status.and_then(|status| status.code());
    role == Role::Keeper
        && [PANIC_EXIT, SEAL_EXIT].map(|exit| Some(i32::from(exit))).contains(&code)
}

impl Post {
    /// It does not run yet.
    fn new(role: Role) -> Self {
        let now = Instant::now();
        Self { role, child: None, ready: None, since: now, backoff: FIRST_BACKOFF, due: now }
    }

    fn run(&mut self, Started { child, ready }: Started) {
        (self.child, self.ready, self.since) = (Some(child), ready, Instant::now());
    }

    /// Notices an end, and how it was.
    fn ended(&mut self) -> Option<End> {
        let status = match self.child.as_mut()?.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => Some(status),
            Err(_) => None,
        };
        (self.child, self.ready) = (None, None);
        Some((self.role, status))
    }

    /// Notices an end and sets the next start, or hears that it is ready.
    fn look(&mut self) -> Option<End> {
        let Some(end) = self.ended() else {
            self.hear();
            return None;
        };
        let now = Instant::now();
        if now.duration_since(self.since) >= HEALTHY_AFTER {
            self.backoff = FIRST_BACKOFF;
        }
        let wait = render::span(self.retreat(now));
        let how = end.1.map_or_else(|| "unseen".to_owned(), |status| status.to_string());
        out::warn(&format!("the {} ended ({how}); starting it again in {wait}", self.role.name()));
        if let Some(next) = launch::next_step(self.role, end.1) {
            out::warn(next);
        }
        Some(end)
    }

    fn hear(&mut self) {
        let Some(ready) = &mut self.ready else { return };
        match launch::hear(self.role, ready) {
            Heard::Nothing => return,
            Heard::Ready => out::say(&format!("the {} runs", self.role.name())),
            // Its exit status says more.
            Heard::End => {}
        }
        self.ready = None;
    }

    /// Sets the next try, and the one after it further away.
    fn retreat(&mut self, now: Instant) -> Duration {
        let wait = self.backoff;
        self.due = now + wait;
        self.backoff = (wait * 2).min(LAST_BACKOFF);
        wait
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};
    use std::time::{Duration, Instant};

    use super::{FIRST_BACKOFF, HEALTHY_AFTER, LAST_BACKOFF, Post, by_operator};
    use crate::up::role::Role;

    fn post(since: Instant, backoff: Duration) -> Post {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        child.wait().unwrap();
        Post { child: Some(child), since, backoff, due: since, ..Post::new(Role::Gateway) }
    }

    #[test]
    fn a_process_that_keeps_ending_is_started_ever_more_slowly() {
        let mut post = post(Instant::now(), FIRST_BACKOFF);
        assert_eq!(post.look(), Some((Role::Gateway, Some(ExitStatus::default()))));
        assert!(post.child.is_none());
        let mut waits = vec![FIRST_BACKOFF];
        waits.extend((0..8).map(|_| post.retreat(Instant::now())));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(waits.last(), Some(&LAST_BACKOFF));
    }

    #[test]
    fn a_process_that_was_healthy_is_started_again_at_once() {
        let Some(long_ago) = Instant::now().checked_sub(HEALTHY_AFTER) else { return };
        let mut post = post(long_ago, LAST_BACKOFF);
        assert!(post.look().is_some());
        assert!(post.due <= Instant::now() + FIRST_BACKOFF);
    }

    #[test]
    fn a_keeper_that_an_operator_sealed_is_told_from_one_that_failed() {
        for (role, code, held) in [
            (Role::Keeper, Some(87), true),
            (Role::Keeper, Some(88), true),
            (Role::Keeper, Some(74), false),
            (Role::Keeper, None, false),
            (Role::Gateway, Some(87), false),
        ] {
            let status = code.map(|code: i32| ExitStatus::from_raw(code << 8));
            assert_eq!(by_operator((role, status)), held, "{role:?} {code:?}");
        }
    }
}
