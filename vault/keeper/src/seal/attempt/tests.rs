use super::*;
use crate::keys::{Algorithm, StoreId};
use crate::seal::passphrase::tests::{CHEAP, patiently};
use crate::seal::{BadShareText, Lock, NewLock, TpmLock, create, split_root};
use crate::slots::scratch::Scratch;

const AES: Algorithm = Algorithm::Aes256Gcm;
const ALICE: Bringer = Bringer(1000);
const BOB: Bringer = Bringer(1001);
const MALLORY: Bringer = Bringer(1666);
const PASSPHRASE: &[u8] = b"correct horse";

/// A vault of any ways, the shares of each, and its ceremony.
struct Table {
    _scratch: Scratch,
    sealed: Sealed,
    root: Vec<u8>,
    shares: Vec<Vec<Share>>,
    ceremony: Ceremony,
    now: Instant,
}

fn shares(threshold: u8, count: u8) -> NewLock<'static> {
    NewLock::Shares { numbers: (threshold, count), holders: Vec::new() }
}

fn tpm(byte: u8) -> NewLock<'static> {
    NewLock::Tpm(TpmLock::sample(byte), tpm_key(byte))
}

fn tpm_key(byte: u8) -> TpmLockKey {
    TpmLockKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap()
}

impl Table {
    fn lay(ways: Vec<Vec<NewLock<'_>>>) -> Self {
        Self::lay_in(StoreId([1; 16]), ways)
    }

    fn lay_in(vault: StoreId, ways: Vec<Vec<NewLock<'_>>>) -> Self {
        let scratch = Scratch::make();
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let kept = root.secret().expose(<[u8]>::to_vec);
        let (mut made, mut shares) = (Vec::new(), Vec::new());
        for (id, locks) in (1..).zip(ways) {
            let random: FillRandom<'_> = &mut getrandom::fill;
            let (way, split) = make_patiently((vault, WayId(id)), &root, &locks, random);
            made.push(way);
            shares.push(split);
        }
        let directory = scratch.directory();
        let open = create(directory, vault, (root, made), AES, &mut getrandom::fill).unwrap();
        Self {
            sealed: open.seal().unwrap(),
            _scratch: scratch,
            root: kept,
            shares,
            ceremony: Ceremony::new(Ceremony::STANDARD_LIFE),
            now: Instant::now(),
        }
    }

    fn three_of_five() -> Self {
        Self::lay(vec![vec![shares(3, 5)]])
    }

    fn bring(&mut self, by: Bringer, offer: Offer<'_>) -> Result<Progress, AttemptRefusal> {
        let (now, random) = (self.now, &mut getrandom::fill);
        self.ceremony.offer((by, None), offer, now, &mut self.sealed, random)
    }

    fn type_in(&mut self, by: Bringer, text: &[u8]) -> Result<Progress, AttemptRefusal> {
        self.bring(by, Offer::Share(&Secret::copy_from(text)))
    }

    /// A share of a way, both counted from 1.
    fn share(
        &mut self,
        by: Bringer,
        (way, index): (usize, usize),
    ) -> Result<Progress, AttemptRefusal> {
        let text = self.shares[way - 1][index - 1].write();
        self.bring(by, Offer::Share(&text))
    }

    fn passphrase(&mut self, by: Bringer, typed: &[u8]) -> Result<Progress, AttemptRefusal> {
        let typed = Secret::copy_from(typed);
        loop {
            match self.bring(by, Offer::Passphrase(&typed)) {
                Err(AttemptRefusal::Passphrase(PassphraseError::Busy)) => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    fn tpm(&mut self, way: u32, byte: u8) -> Result<Progress, AttemptRefusal> {
        self.bring(ALICE, Offer::Tpm(WayId(way), tpm_key(byte)))
    }

    fn standing(&mut self) -> Standing {
        self.ceremony.standing(self.now, &self.sealed).unwrap()
    }

    fn accepted(&mut self) -> Vec<u8> {
        self.standing().accepted
    }

    fn opens(&self, answer: Result<Progress, AttemptRefusal>) -> WayId {
        let Ok(Progress::Complete(root, way)) = answer else { panic!("not complete: {answer:?}") };
        assert!(root.secret().matches(&self.root));
        assert!(!self.ceremony.is_under_way(self.now));
        way
    }
}

fn make_patiently(
    place: (StoreId, WayId),
    root: &RootKey,
    locks: &[NewLock<'_>],
    random: FillRandom<'_>,
) -> (Way, Vec<Share>) {
    // Argon2 runs once at a time in a process, and so do the tests that need it here.
    patiently(|| {
        let again = locks.iter().map(copy_of).collect();
        Way::make(place, root, again, AES, random).map_err(|error| match error {
            crate::seal::WayError::Passphrase(error) => error,
            other => panic!("{other}"),
        })
    })
    .unwrap()
}

fn copy_of<'a>(lock: &NewLock<'a>) -> NewLock<'a> {
    match lock {
        NewLock::Passphrase(passphrase, cost) => NewLock::Passphrase(passphrase, *cost),
        NewLock::Shares { numbers, holders } => {
            NewLock::Shares { numbers: *numbers, holders: holders.clone() }
        }
        NewLock::Tpm(lock, key) => NewLock::Tpm(
            lock.clone(),
            TpmLockKey::from_secret(key.secret().expose(Secret::copy_from)).unwrap(),
        ),
    }
}

fn share_refusal(answer: Result<Progress, AttemptRefusal>) -> ShareRefusal {
    match answer {
        Err(AttemptRefusal::Share(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn three_of_five_open_the_vault() {
    let mut table = Table::three_of_five();
    assert!(matches!(table.share(ALICE, (1, 4)), Ok(Progress::Waiting(_))));
    assert_eq!(table.standing().missing, Some(2));
    assert!(matches!(table.share(BOB, (1, 2)), Ok(Progress::Waiting(_))));
    assert_eq!((table.accepted(), table.standing().missing), (vec![4, 2], Some(1)));
    let answer = table.share(ALICE, (1, 5));
    let Ok(Progress::Complete(root, way)) = answer else { panic!("not complete") };
    assert!(root.secret().matches(&table.root));
    assert!(!table.ceremony.is_under_way(table.now));
    assert!(table.sealed.unseal((root, way), AES, &mut getrandom::fill).is_ok());
}

#[test]
fn each_bad_share_is_named_and_the_accepted_ones_stay() {
    let mut table = Table::three_of_five();
    let other_vault = Table::lay_in(StoreId([2; 16]), vec![vec![shares(3, 5)]]);
    let root = RootKey::from_secret(Secret::copy_from(&table.root)).unwrap();
    let id = table.sealed.vault();
    let (retired, stale) = split_root(&root, id, (3, 5), &mut getrandom::fill).unwrap();
    let (_, unknown) = split_root(&root, id, (3, 5), &mut getrandom::fill).unwrap();
    table.sealed.file.retired.push(retired.id);
    assert!(table.share(ALICE, (1, 1)).is_ok());

    // From different hands, so that nobody has to wait for having failed too often.
    assert_eq!(share_refusal(table.share(ALICE, (1, 1))), ShareRefusal::Duplicate { index: 1 });
    let foreign = other_vault.shares[0][1].write();
    assert_eq!(share_refusal(table.bring(BOB, Offer::Share(&foreign))), ShareRefusal::ForeignVault);
    let stale = stale[1].write();
    assert_eq!(share_refusal(table.bring(BOB, Offer::Share(&stale))), ShareRefusal::Stale);
    let unknown = unknown[1].write();
    assert_eq!(share_refusal(table.bring(BOB, Offer::Share(&unknown))), ShareRefusal::WrongSet);
    let good = table.shares[0][1].write().expose(<[u8]>::to_vec);
    let mut mistyped = good.clone();
    mistyped[30] = if mistyped[30] == b'x' { b'y' } else { b'x' };
    let answer = table.type_in(MALLORY, &mistyped);
    assert_eq!(share_refusal(answer), BadShareText::Mistyped { group: 3 }.into());
    let answer = table.type_in(MALLORY, &good[..good.len() - 20]);
    assert_eq!(share_refusal(answer), BadShareText::Length { characters: 110 }.into());
    let mut groups: Vec<&[u8]> = good.split(|byte| *byte == b'-').collect();
    groups.swap(5, 6);
    let answer = table.type_in(MALLORY, &groups.join(&b'-'));
    assert_eq!(share_refusal(answer), BadShareText::Mistyped { group: 5 }.into());
    assert_eq!(table.accepted(), [1]);
    assert_eq!(table.ceremony.failed(), 6);
}

// Guards against a wrong share silently giving a wrong R. Red when the digest is not compared.
#[test]
fn a_share_with_any_bit_flipped_and_a_good_checksum_is_altered() {
    let mut table = Table::three_of_five();
    for bit in 0..256_usize {
        let honest = &table.shares[0][1];
        let mut point = honest.point.expose(<[u8]>::to_vec);
        point[bit / 8] ^= 1 << (bit % 8);
        let forged = Share { point: Secret::take(point), ..*honest }.write();
        let by = Bringer(u32::try_from(bit).unwrap());
        let answer = table.bring(by, Offer::Share(&forged));
        assert_eq!(share_refusal(answer), ShareRefusal::Altered { index: 2 });
    }
    assert!(!table.ceremony.is_under_way(table.now));
}

// Guards against blocking: a holder of another way's share must not shut the others out.
#[test]
fn shares_of_two_ways_lie_side_by_side_and_do_not_mix() {
    let mut table = Table::lay(vec![vec![shares(3, 5)], vec![shares(2, 2)]]);
    assert!(table.share(MALLORY, (2, 1)).is_ok());
    assert_eq!((table.accepted(), table.standing().missing), (vec![1], Some(1)));
    assert!(table.share(ALICE, (1, 1)).is_ok() && table.share(ALICE, (1, 2)).is_ok());
    assert_eq!((table.accepted(), table.standing().missing), (vec![1, 2], Some(1)));
    let answer = table.share(ALICE, (1, 3));
    assert_eq!(table.opens(answer), WayId(1));
}

// Guards against CVE-2025-4656. Red when `abandon` does not look at who asks.
#[test]
fn nobody_alters_an_attempt_to_which_they_brought_nothing() {
    let mut table = Table::three_of_five();
    assert!(table.share(ALICE, (1, 1)).is_ok());
    let (id, now) = (table.standing().id, table.now);
    for (who, which) in [(MALLORY, id), (ALICE, AttemptId([0; 8])), (BOB, id)] {
        let refused = table.ceremony.abandon(who, which, now);
        assert_eq!(refused, Err(AttemptRefusal::NoSuchAttempt));
    }
    let mut guess = table.shares[0][1].write().expose(<[u8]>::to_vec);
    guess[20] ^= 1;
    assert!(table.type_in(MALLORY, &guess).is_err());
    assert_eq!((table.accepted(), table.standing().id), (vec![1], id));
    table.ceremony.abandon(ALICE, id, now).unwrap();
    assert!(!table.ceremony.is_under_way(now));
}

#[test]
fn a_part_that_is_tied_to_another_attempt_is_not_taken() {
    let mut table = Table::three_of_five();
    assert!(table.share(ALICE, (1, 1)).is_ok());
    let id = table.standing().id;
    let text = table.shares[0][1].write();
    let mut bring = |tied| {
        let (now, random) = (table.now, &mut getrandom::fill);
        let offer = Offer::Share(&text);
        table.ceremony.offer((BOB, Some(tied)), offer, now, &mut table.sealed, random)
    };
    assert_eq!(bring(AttemptId([9; 8])).unwrap_err(), AttemptRefusal::NoSuchAttempt);
    assert!(bring(id).is_ok());
    assert_eq!(table.accepted(), [1, 2]);
}

#[test]
fn an_attempt_expires_and_takes_its_shares_with_it() {
    let mut table = Table::three_of_five();
    assert!(table.share(ALICE, (1, 1)).is_ok() && table.share(ALICE, (1, 2)).is_ok());
    let (first, begun) = (table.standing().id, table.now);
    table.now = (begun + Ceremony::STANDARD_LIFE).checked_sub(Duration::from_nanos(1)).unwrap();
    assert_eq!(table.accepted(), [1, 2]);
    table.now = begun + Ceremony::STANDARD_LIFE;
    assert!(!table.ceremony.is_under_way(table.now));
    assert!(table.ceremony.expire(table.now) && !table.ceremony.expire(table.now));
    assert!(table.share(ALICE, (1, 3)).is_ok());
    assert_eq!(table.accepted(), [3]);
    assert_ne!(table.standing().id, first);
}

// Red when `combine` does not compare the commitment: a seal file edited by a thief.
#[test]
fn good_shares_under_an_edited_seal_file_do_not_give_a_root() {
    let mut table = Table::three_of_five();
    let [Lock::Shares { set, .. }] = table.sealed.file.ways[0].locks.as_mut_slice() else {
        panic!()
    };
    set.threshold = 2;
    assert!(table.share(ALICE, (1, 1)).is_ok());
    assert_eq!(share_refusal(table.share(ALICE, (1, 2))), ShareRefusal::NotTheRoot);
    assert!(!table.ceremony.is_under_way(table.now));
}

// Guards against guessing. Red when `offer` does not ask how long its bringer must wait.
#[test]
fn who_fails_too_often_waits_and_the_holders_do_not() {
    let mut table = Table::lay(vec![vec![shares(2, 3)]]);
    for _ in 0..5 {
        assert_eq!(
            share_refusal(table.type_in(MALLORY, b"srs1-x")),
            BadShareText::Length { characters: 1 }.into()
        );
    }
    let refused = table.share(MALLORY, (1, 1)).unwrap_err();
    assert!(matches!(refused, AttemptRefusal::TooMany { .. }), "{refused:?}");
    assert!(table.share(ALICE, (1, 1)).is_ok());
    let answer = table.share(BOB, (1, 2));
    table.opens(answer);
}

#[test]
fn any_of_several_ways_opens() {
    let passphrase = Secret::copy_from(PASSPHRASE);
    let ways =
        || vec![vec![NewLock::Passphrase(&passphrase, CHEAP)], vec![shares(2, 3)], vec![tpm(9)]];
    let mut table = Table::lay(ways());
    let answer = table.passphrase(ALICE, PASSPHRASE);
    assert_eq!(table.opens(answer), WayId(1));
    assert!(table.share(ALICE, (2, 3)).is_ok());
    let answer = table.share(ALICE, (2, 1));
    assert_eq!(table.opens(answer), WayId(2));
    let answer = table.tpm(3, 9);
    assert_eq!(table.opens(answer), WayId(3));
    let wrong = table.passphrase(ALICE, b"wrong").unwrap_err();
    assert_eq!(wrong, PassphraseError::WrongPassphrase.into());
    assert!(matches!(table.tpm(3, 8).unwrap_err(), AttemptRefusal::Damaged(_)));
    assert_eq!(table.tpm(1, 9).unwrap_err(), AttemptRefusal::NoSuchLock);
}

// Guards all-of. Red when the way key leaves out one of its locks.
#[test]
fn a_way_of_several_locks_opens_with_all_of_them_in_any_order_and_with_no_fewer() {
    let passphrase = Secret::copy_from(PASSPHRASE);
    let all = || vec![vec![NewLock::Passphrase(&passphrase, CHEAP), shares(2, 3), tpm(9)]];
    let mut table = Table::lay(all());
    assert!(matches!(table.tpm(1, 9), Ok(Progress::Waiting(_))));
    assert!(matches!(table.share(ALICE, (1, 1)), Ok(Progress::Waiting(_))));
    let standing = table.standing();
    assert_eq!((standing.missing, standing.shut), (Some(1), vec![LockKind::Passphrase]));
    assert!(matches!(table.share(BOB, (1, 3)), Ok(Progress::Waiting(_))));
    let not_needed = share_refusal(table.share(BOB, (1, 2)));
    assert_eq!(not_needed, ShareRefusal::NotNeeded { index: 2 });
    let answer = table.passphrase(ALICE, PASSPHRASE);
    table.opens(answer);

    assert!(matches!(table.passphrase(ALICE, PASSPHRASE), Ok(Progress::Waiting(_))));
    assert!(table.share(ALICE, (1, 2)).is_ok() && table.share(BOB, (1, 3)).is_ok());
    assert!(matches!(
        table.ceremony.standing(table.now, &table.sealed),
        Some(Standing { missing: Some(0), .. })
    ));
    let answer = table.tpm(1, 9);
    table.opens(answer);
}

// Guards against an oracle: alone, a passphrase of several locks is neither right nor wrong.
#[test]
fn the_wrong_passphrase_of_several_locks_is_named_when_all_are_there_and_the_shares_stay() {
    let passphrase = Secret::copy_from(PASSPHRASE);
    let mut table = Table::lay(vec![vec![NewLock::Passphrase(&passphrase, CHEAP), shares(2, 2)]]);
    assert!(matches!(table.passphrase(ALICE, b"wrong horse"), Ok(Progress::Waiting(_))));
    assert!(table.share(ALICE, (1, 1)).is_ok());
    assert_eq!(table.share(BOB, (1, 2)).unwrap_err(), AttemptRefusal::EarlierPassphrase);
    assert_eq!(table.accepted(), [1, 2]);
    let wrong = table.passphrase(BOB, b"wrong again").unwrap_err();
    assert_eq!(wrong, PassphraseError::WrongPassphrase.into());
    let answer = table.passphrase(ALICE, PASSPHRASE);
    table.opens(answer);
}

// Red when another operator's passphrase replaces the one that lies there.
#[test]
fn a_strangers_wrong_passphrase_does_not_push_out_the_right_one() {
    let passphrase = Secret::copy_from(PASSPHRASE);
    let mut table = Table::lay(vec![vec![NewLock::Passphrase(&passphrase, CHEAP), shares(2, 2)]]);
    assert!(table.passphrase(ALICE, PASSPHRASE).is_ok());
    for stranger in 0..3 {
        assert!(table.passphrase(Bringer(stranger), b"wrong").is_ok());
    }
    assert_eq!(table.passphrase(MALLORY, b"wrong").unwrap_err(), AttemptRefusal::Crowded);
    assert!(table.share(BOB, (1, 1)).is_ok());
    let answer = table.share(BOB, (1, 2));
    table.opens(answer);
}

#[test]
fn holders_are_named_where_they_are_known() {
    let holders = ["alice", "bob", "carol"].map(str::to_owned).to_vec();
    let mut table = Table::lay(vec![vec![NewLock::Shares { numbers: (3, 3), holders }]]);
    assert!(table.share(ALICE, (1, 2)).is_ok() && table.share(ALICE, (1, 1)).is_ok());
    assert_eq!(table.standing().holders, ["bob", "alice"]);
}
