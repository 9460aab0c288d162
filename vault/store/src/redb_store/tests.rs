//! redb over a disk that fails at any one operation, and over one whose power is cut with any of its writes undone.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicI64;
use strongroom_soak::tell;

use super::*;

/// What a drive does: it keeps what was synced, and of the rest any part.
#[derive(Debug, Default)]
struct Drive {
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
}

/// A disk in memory; the operation at which `left` passes zero fails, and all after it.
#[derive(Debug, Clone)]
struct Failing {
    drive: Arc<Mutex<Drive>>,
    left: Arc<AtomicI64>,
    kind: io::ErrorKind,
}

impl Failing {
    fn over(image: Vec<u8>, left: i64, kind: io::ErrorKind) -> Self {
        let drive = Drive { seen: image.clone(), durable: image, pending: Vec::new() };
        let drive = Arc::new(Mutex::new(drive));
        Self { drive, left: Arc::new(AtomicI64::new(left)), kind }
    }

    fn turn(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(self.kind.into()) }
    }

    fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// What is on the drive when its power is cut now: each sector that was not synced is there or not.
    fn cut(&self, mut choose: impl FnMut() -> bool) -> Vec<u8> {
        let drive = self.drive.lock().unwrap();
        let mut image = drive.durable.clone();
        image.resize(drive.seen.len().max(image.len()), 0);
        for (offset, bytes) in &drive.pending {
            for (number, sector) in (0..).zip(bytes.chunks(SECTOR_BYTES)) {
                if choose() {
                    let at = usize::try_from(*offset).unwrap() + number * SECTOR_BYTES;
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.drive.lock().unwrap().seen.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let drive = self.drive.lock().unwrap();
        let found = drive.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.turn()?;
        let mut drive = self.drive.lock().unwrap();
        drive.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.turn()?;
        let mut drive = self.drive.lock().unwrap();
        drive.pending.clear();
        drive.durable = drive.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.turn()?;
        let at = usize::try_from(offset).unwrap();
        let mut drive = self.drive.lock().unwrap();
        drive.seen[at..at + data.len()].copy_from_slice(data);
        drive.pending.push((offset, data.to_vec()));
        Ok(())
    }
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(disk: Failing) -> Result<RedbStore, StoreError> {
    let scratch = tempfile::tempdir().unwrap();
    let hold = Hold::take(scratch.path())?;
    let store = RedbStore::over(hold, disk, Arc::default())?;
    store.make_table()?;
    Ok(store)
}

fn records(store: &RedbStore) -> Records {
    let mut found = Records::new();
    store
        .scan_all(&mut |key, value| {
            found.insert(key.as_bytes().to_vec(), value.as_bytes().to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

/// The batch of a round, and what the store holds after it.
fn round(number: u32, before: &Records) -> (Batch, Records) {
    let (mut batch, mut after) = (Batch::new(), before.clone());
    for part in 0..4_u32 {
        let name = ((number * 5 + part * 3) % 17).to_be_bytes();
        let key = Key::new(&name).unwrap();
        if (number + part).is_multiple_of(3) {
            batch = batch.delete(key);
            after.remove(name.as_slice());
        } else {
            let bytes = vec![number.to_be_bytes()[3]; usize::try_from(part * 1900 + 1).unwrap()];
            batch = batch.put(key, Value::new(&bytes).unwrap());
            after.insert(name.to_vec(), bytes);
        }
    }
    (batch, after)
}

/// Writes until it is refused: what was acknowledged last, and what was on its way then.
fn write(disk: &Failing) -> (Records, Option<Records>) {
    let Ok(store) = open(disk.clone()) else { return (Records::new(), None) };
    let mut acknowledged = records(&store);
    for number in 0..ROUNDS {
        let (batch, after) = round(number, &acknowledged);
        match store.commit(batch) {
            Ok(()) => acknowledged = after,
            Err(error) => {
                assert!(!matches!(error, StoreError::Conflict), "{error}");
                let later = store.commit(Batch::new().delete(Key::new(b"x").unwrap()));
                assert!(matches!(later, Err(StoreError::Poisoned)), "{later:?}");
                return (acknowledged, Some(after));
            }
        }
    }
    (acknowledged, None)
}

/// Fails every operation in turn; at each, some cuts of the power.
fn fail_everywhere(kind: io::ErrorKind, cuts: u32) -> (u32, u32) {
    let (mut failures, mut images, mut seed) = (0, 0, 0x9E37_79B9_7F4A_7C15_u64);
    for left in 0.. {
        let disk = Failing::over(Vec::new(), left, kind);
        let (acknowledged, under_way) = write(&disk);
        if !disk.has_failed() {
            break;
        }
        failures += 1;
        for _ in 0..cuts {
            let image = disk.cut(|| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed & 4 == 0
            });
            let reopened = open(Failing::over(image, i64::MAX, kind));
            let Ok(store) = reopened else {
                // A file that was never synced whole is no store yet: nothing was acknowledged.
                assert!(acknowledged.is_empty(), "{reopened:?} after operation {left}");
                continue;
            };
            let found = records(&store);
            let either = found == acknowledged || under_way.as_ref() == Some(&found);
            assert!(either, "operation {left}: {} records", found.len());
            images += 1;
        }
    }
    (failures, images)
}

#[test]
fn a_disk_that_fails_at_any_operation_poisons_the_store_and_a_cut_then_loses_nothing() {
    let cuts = strongroom_soak::size(2, 20);
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        let (failures, images) = fail_everywhere(kind, cuts);
        assert!(failures > ROUNDS, "{failures}");
        assert!(images > ROUNDS, "{images}");
        tell("store redb", &format!("writes failed one by one with {kind:?}"), failures);
        tell(
            "store redb",
            "power cuts with any unsynced sectors undone, 0 acknowledged lost",
            images,
        );
    }
}

const ROUNDS: u32 = 24;
const SECTOR_BYTES: usize = 512;
