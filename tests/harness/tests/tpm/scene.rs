//! A keeper, a TPM helper and a software TPM, without the rest; and between keeper and helper somebody who listens and cuts.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::frame::{decode, split_first};
use strongroom_protocol::operator::sealing::{WaysAct, WaysChange};
use strongroom_protocol::operator::tpm::{TpmStatus, TpmWish};
use strongroom_protocol::operator::{Answer, Fault, Request, SealWish, UnsealWith};
use strongroom_protocol::tpm::{Ask, MAX_TPM_BYTES, PcrSet, ToTpm};
use strongroom_sys::spawn::{self, Network};
use strongroom_tests::operator::Operator;
use strongroom_tests::{PATIENCE, journal, scratch, until};

use crate::emulator::{Emulator, code, header};

/// Where the conversation between keeper and helper ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The helper never hears of the increment.
    BeforeIncrement,
    /// The keeper never hears that it was done.
    AfterIncrement,
}

/// What the listener does and saw.
#[derive(Default)]
struct Wire {
    cut: Option<Cut>,
    was_cut: bool,
    increments: usize,
    /// Copies the seal file here when an increment was done.
    keep_seal: Option<(PathBuf, PathBuf)>,
}

/// The two processes over one TPM.
pub(crate) struct Scene {
    pub(crate) emulator: Emulator,
    place: tempfile::TempDir,
    wire: Arc<Mutex<Wire>>,
    /// The ends that the processes inherit: they outlive them.
    for_keeper: OwnedFd,
    for_helper: OwnedFd,
    keeper: Option<Child>,
    helper: Option<Child>,
    pub(crate) shares: Vec<Vec<u8>>,
    /// Whether the settings say that the vault is sealed to the TPM.
    pub(crate) required: bool,
    /// `--setting` of the next start.
    pub(crate) settings: Vec<&'static str>,
}

pub(crate) const PIN: &[u8] = b"271828";

impl Scene {
    /// A vault of shares, 2 of 3, that is open and not sealed to the TPM.
    pub(crate) fn found() -> Self {
        let emulator = Emulator::start();
        let place = scratch::directory();
        fs::create_dir(place.path().join("run")).unwrap();
        let ((for_keeper, ours), (theirs, for_helper)) =
            (UnixDatagram::pair().unwrap(), UnixDatagram::pair().unwrap());
        let wire = Arc::new(Mutex::new(Wire::default()));
        listen(ours, theirs, &wire);
        let mut scene = Self {
            emulator,
            place,
            wire,
            for_keeper: for_keeper.into(),
            for_helper: for_helper.into(),
            keeper: None,
            helper: None,
            shares: Vec::new(),
            required: false,
            settings: Vec::new(),
        };
        scene.start_helper();
        scene.start_keeper();
        let wish = SealWish::Shares { threshold: 2, count: 3, holders: Vec::new() };
        let Answer::Shares(shares) = scene.ask(&Request::Init(wish)) else { panic!("no shares") };
        scene.shares = shares.iter().map(|share| share.expose(<[u8]>::to_vec)).collect();
        let made = scene.show_custody();
        assert!(matches!(made, Answer::Initialised(_)), "{made:?}");
        scene
    }

    /// Enters two shares back.
    pub(crate) fn show_custody(&self) -> Answer {
        let show = |share: &Vec<u8>| {
            Request::ShowCustody(UnsealWith::Share(SecretBytes::copy_from(share)))
        };
        let made: Vec<_> = self.shares[..2].iter().map(|share| self.ask(&show(share))).collect();
        made.into_iter().next_back().unwrap()
    }

    /// Asks for new shares under a new root key, with what opens the vault now and, for the TPM, a PIN.
    pub(crate) fn rotate(&self, pin: Option<&[u8]>) -> Answer {
        let part = |share: &Vec<u8>| UnsealWith::Share(SecretBytes::copy_from(share));
        let mut proof: Vec<_> = self.shares[..2].iter().map(part).collect();
        proof.push(UnsealWith::Tpm(pin.map(SecretBytes::copy_from)));
        let shares = SealWish::Shares { threshold: 2, count: 3, holders: Vec::new() };
        let act = WaysAct::Rotate(vec![vec![shares]]);
        self.ask(&Request::ChangeWays(Box::new(WaysChange { proof, act })))
    }

    /// The same, and sealed to the TPM.
    pub(crate) fn sealed_to_the_tpm(pin: Option<&[u8]>) -> Self {
        let mut scene = Self::found();
        assert!(matches!(scene.seal_to_tpm(pin), Answer::Done));
        scene
    }

    pub(crate) fn seal_to_tpm(&mut self, pin: Option<&[u8]>) -> Answer {
        self.seal_to_tpm_with(pin, None)
    }

    /// Seals to the TPM together with something else.
    pub(crate) fn seal_to_tpm_with(&self, pin: Option<&[u8]>, with: Option<SealWish>) -> Answer {
        let part = |share: &Vec<u8>| UnsealWith::Share(SecretBytes::copy_from(share));
        let parts = self.shares[1..].iter().map(part).collect();
        let (pcrs, pin) = (PcrSet::of(&[7, 16]).unwrap(), pin.map(SecretBytes::copy_from));
        self.ask(&Request::TpmSeal(Box::new(TpmWish { pcrs, pin, parts, with })))
    }

    pub(crate) fn ask(&self, request: &Request) -> Answer {
        Operator::connect(&self.place.path().join("run")).ask(request)
    }

    /// Sends a request whose answer never comes.
    pub(crate) fn send_into_the_void(&self, request: Request) {
        let run = self.place.path().join("run");
        thread::spawn(move || {
            let frame = strongroom_protocol::frame::encode(&request, 1 << 20).unwrap();
            drop(Operator::connect(&run).raw(&frame));
        });
    }

    pub(crate) fn unseal_by_tpm(&self, pin: Option<&[u8]>) -> Answer {
        self.ask(&Request::Unseal(UnsealWith::Tpm(pin.map(SecretBytes::copy_from))))
    }

    /// Brings two shares; each with a checkpoint or without.
    pub(crate) fn unseal_by_shares(&self, checkpoints: [Option<&str>; 2]) -> Answer {
        let mut last = Answer::Done;
        for (share, checkpoint) in self.shares.iter().zip(checkpoints) {
            let with = UnsealWith::Share(SecretBytes::copy_from(share));
            last = self.ask(&match checkpoint {
                Some(checkpoint) => {
                    Request::UnsealConfirming { with, checkpoint: checkpoint.to_owned() }
                }
                None => Request::Unseal(with),
            });
        }
        last
    }

    /// The first share alone.
    pub(crate) fn bring_first_share(&self) -> Answer {
        let share = self.shares.first().map(|share| SecretBytes::copy_from(share));
        self.ask(&Request::Unseal(UnsealWith::Share(share.unwrap())))
    }

    /// How many NV indices the TPM has.
    pub(crate) fn nv_indices(&self) -> u32 {
        let mut command = header(0x8001, 0x17A, 22);
        for word in [1_u32, 0x0100_0000, 64] {
            command.extend(word.to_be_bytes());
        }
        let answer = self.emulator.send(&command);
        assert_eq!(code(&answer), 0);
        u32::from_be_bytes(answer[15..19].try_into().unwrap())
    }

    /// Asks for another way into the vault.
    pub(crate) fn add_way(&self, lock: SealWish) -> Answer {
        let part = |share: &Vec<u8>| UnsealWith::Share(SecretBytes::copy_from(share));
        let proof = self.shares[..2].iter().map(part).collect();
        let act = WaysAct::Add(vec![lock]);
        self.ask(&Request::ChangeWays(Box::new(WaysChange { proof, act })))
    }

    /// Whoever keeps the journal cannot put a checkpoint in its place from now on, and has none to put there before the next entry.
    pub(crate) fn jam_checkpoints(&self) {
        let journal = self.data().join("journal");
        until("a checkpoint covers all entries", || {
            let signed = fs::read_to_string(journal.join("checkpoint")).ok()?;
            let signed: usize = signed.lines().nth(1)?.parse().ok()?;
            (signed == journal::read(&journal.join("tail")).len()).then_some(())
        });
        let other = journal.join("checkpoint.new");
        fs::remove_file(&other).unwrap();
        fs::create_dir_all(other.join("in the way")).unwrap();
    }

    pub(crate) fn tpm_status(&self) -> TpmStatus {
        match self.ask(&Request::TpmStatus) {
            Answer::Tpm(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// What the journal says of each unsealing: what opened the vault, and how many attempts failed before.
    pub(crate) fn unsealings(&self) -> Vec<(String, u64)> {
        let Answer::Journal(rows) =
            self.ask(&Request::AuditTail { after: None, limit: 500, wait_ms: 0 })
        else {
            panic!("no journal")
        };
        let entries = rows.iter().map(|row| serde_json::from_str(&row.line).unwrap());
        let unsealings = entries.filter(|entry: &serde_json::Value| entry["what"] == "unseal");
        let told = unsealings.map(|entry| {
            let way = entry["seal"].as_str().unwrap().to_owned();
            (way, entry["failed_attempts"].as_u64().unwrap())
        });
        told.collect()
    }

    pub(crate) fn start_keeper(&mut self) {
        let uid = nix::unistd::getuid().to_string();
        let path = |name: &str| self.place.path().join(name).display().to_string();
        let (data, run) = (path("data"), path("run"));
        let arguments = [
            ["--data", &data],
            ["--run", &run],
            ["--public-url", "https://localhost:8443"],
            ["--ask-uid", &uid],
            ["--errand-uid", &uid],
            ["--errand-defined-uid", &uid],
            ["--ready-fd", "3"],
            ["--tpm-fd", "4"],
            ["--tpm-seal", if self.required { "required" } else { "optional" }],
        ];
        let settings = self.settings.iter().flat_map(|setting| ["--setting", setting]);
        let arguments: Vec<&str> = arguments.concat().into_iter().chain(settings).collect();
        self.keeper = Some(start("strongroom-keeper", &arguments, &self.for_keeper));
    }

    pub(crate) fn kill_keeper(&mut self) {
        kill(self.keeper.take());
    }

    pub(crate) fn restart_keeper(&mut self) {
        self.kill_keeper();
        self.start_keeper();
    }

    pub(crate) fn start_helper(&mut self) {
        let tcti = self.emulator.tcti();
        let arguments = ["--tcti", &tcti, "--ready-fd", "3", "--keeper-fd", "4"];
        self.helper = Some(start("strongroom-tpm", &arguments, &self.for_helper));
    }

    pub(crate) fn restart_helper(&mut self) {
        kill(self.helper.take());
        self.start_helper();
    }

    /// The TPM and its helper, as after a power cycle; what was cut is whole again.
    pub(crate) fn power_cycle(&mut self) {
        self.kill_keeper();
        kill(self.helper.take());
        self.emulator.unplug();
        self.emulator.plug_in();
        self.wire.lock().unwrap().cut = None;
        self.start_helper();
        self.start_keeper();
    }

    /// Puts another TPM in the place of this one.
    pub(crate) fn replace_tpm(&mut self) {
        kill(self.helper.take());
        self.emulator = Emulator::start();
        self.start_helper();
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// Copies the data directory.
    pub(crate) fn copy_data(&self, name: &str) -> PathBuf {
        let to = self.place.path().join(name);
        copy(&self.data(), &to);
        to
    }

    /// Puts a copy of it, or of a part of it, in its place.
    pub(crate) fn put_back(&self, from: &Path, part: &str) {
        let (from, to) = (from.join(part), self.data().join(part));
        if to.is_dir() {
            fs::remove_dir_all(&to).unwrap();
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }

    pub(crate) fn cut(&self, cut: Cut) {
        let mut wire = self.wire.lock().unwrap();
        (wire.cut, wire.was_cut) = (Some(cut), false);
    }

    pub(crate) fn wait_for_the_cut(&self) {
        until("the wire is cut", || self.wire.lock().unwrap().was_cut.then_some(()));
    }

    pub(crate) fn increments(&self) -> usize {
        self.wire.lock().unwrap().increments
    }

    /// From now on the seal file is copied whenever the counter has moved and the keeper does not know yet.
    pub(crate) fn keep_seal(&self, name: &str) -> PathBuf {
        let to = self.place.path().join(name);
        let seal = self.data().join("vault/seal");
        self.wire.lock().unwrap().keep_seal = Some((seal, to.clone()));
        to
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        kill(self.keeper.take());
        kill(self.helper.take());
    }
}

pub(crate) fn failure(answer: Answer) -> Fault {
    match answer {
        Answer::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// The checkpoint that a refusal shows.
pub(crate) fn checkpoint(fault: &Fault) -> String {
    let (_, shown) = fault.message.rsplit_once("checkpoint ").expect("a checkpoint");
    shown.to_owned()
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        drop(child.kill());
        child.wait().unwrap();
    }
}

fn start(program: &str, arguments: &[&str], socket: &OwnedFd) -> Child {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let child = spawn::Child {
        program: &scratch::programs().join(program),
        arguments,
        user: None,
        network: Network::Host,
        inherited: &[theirs.as_fd(), socket.as_fd()],
        keep_environment: &[],
        wipes_freed: program == "strongroom-tpm",
    };
    let child = child.start().unwrap();
    drop(theirs);
    (&ours).read_exact(&mut [0]).expect("it says that it is ready");
    child
}

/// Passes datagrams on, both ways.
fn listen(keeper: UnixDatagram, helper: UnixDatagram, wire: &Arc<Mutex<Wire>>) {
    let (keeper_too, helper_too) = (keeper.try_clone().unwrap(), helper.try_clone().unwrap());
    let increment_under_way = Arc::new(Mutex::new(None::<u64>));
    let (asked, lent) = (Arc::clone(&increment_under_way), Arc::clone(wire));
    thread::spawn(move || {
        pass(&keeper, &helper, |datagram| {
            let mut wire = lent.lock().unwrap();
            let (body, _) = split_first(datagram, MAX_TPM_BYTES).unwrap().unwrap();
            let ToTpm { number, ask } = decode(body).unwrap();
            let increments = matches!(ask, Ask::CounterIncrement { .. });
            *asked.lock().unwrap() = increments.then_some(number);
            if increments && wire.cut == Some(Cut::BeforeIncrement) {
                wire.was_cut = true;
            }
            !(wire.was_cut && wire.cut.is_some())
        });
    });
    let lent = Arc::clone(wire);
    thread::spawn(move || {
        pass(&helper_too, &keeper_too, |_| {
            let mut wire = lent.lock().unwrap();
            if increment_under_way.lock().unwrap().take().is_some() {
                wire.increments += 1;
                if let Some((from, to)) = &wire.keep_seal {
                    fs::copy(from, to).unwrap();
                }
                wire.was_cut |= wire.cut == Some(Cut::AfterIncrement);
            }
            !(wire.was_cut && wire.cut.is_some())
        });
    });
}

fn pass(from: &UnixDatagram, to: &UnixDatagram, mut see: impl FnMut(&[u8]) -> bool) {
    to.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut datagram = vec![0; MAX_TPM_BYTES + 64];
    while let Ok(length) = from.recv(&mut datagram) {
        if see(&datagram[..length]) && to.send(&datagram[..length]).is_err() {
            return;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
