//! The decoder against content that no version of this program wrote.

use strongroom_policy::moment::Moment;
use strongroom_sys::Secret;

use super::{Closing, ContentError, ContentReader, ContentWriter, Item, JournalPoint};
use crate::backup::stream::{Header, StreamReader, StreamWriter};
use crate::keys::{Key, StoreId, SystemSeed};
use crate::manifest::{Accumulator, MARK_RECORD};
use crate::slots::Generation;

fn seed() -> SystemSeed {
    Key::from_secret(Secret::copy_from(&[1; 32])).unwrap()
}

fn header() -> Header {
    Header {
        store: StoreId([7; 16]),
        commit: 1,
        when: Moment::from_unix_millis(0),
        salt: [3; 32],
        keyring: Generation(2),
        seal: Vec::new(),
        keyring_payload: Vec::new(),
    }
}

fn closing() -> Closing {
    let journal = JournalPoint { entries: 9, chain: [8; 32] };
    Closing { commit: 1, count: 2, set_hash: Accumulator::empty(), journal }
}

fn stream() -> StreamWriter<Vec<u8>> {
    StreamWriter::begin(Vec::new(), &header(), &header().derive_key(&seed()).unwrap()).unwrap()
}

fn read(mut bytes: &[u8]) -> Result<Vec<Item>, ContentError> {
    let header = Header::read(&mut bytes)?;
    let stream = StreamReader::begin(bytes, &header.derive_key(&seed())?)?;
    let mut content = ContentReader::begin(stream);
    let mut items = Vec::new();
    loop {
        let item = content.next_item()?;
        let last = matches!(item, Item::Closing(_));
        items.push(item);
        if last {
            return Ok(items);
        }
    }
}

/// Content as whoever has the key could write it.
fn raw(content: &[u8]) -> Result<Vec<Item>, ContentError> {
    let mut stream = stream();
    stream.write(content).unwrap();
    read(&stream.finish().unwrap().0)
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[1], &length(key)[..], &length(value)[..], key, value].concat()
}

fn end() -> Vec<u8> {
    [
        &[2],
        &1_u64.to_be_bytes()[..],
        &2_u64.to_be_bytes(),
        &[0; 2048],
        &9_u64.to_be_bytes(),
        &[8; 32],
    ]
    .concat()
}

#[test]
fn what_is_written_is_read_in_its_order() {
    let mut content = ContentWriter::begin(stream());
    content.record(b"a", b"one").unwrap();
    content.record(b"b", &[7; 8000]).unwrap();
    let (bytes, _) = content.close(closing()).unwrap();
    let items = read(&bytes).unwrap();
    assert_eq!(items.len(), 3);
    assert_eq!(items[2], Item::Closing(Box::new(closing())));
    let by_hand = [record(b"a", b"one"), record(b"b", &[7; 8000]), end()].concat();
    assert_eq!(raw(&by_hand).unwrap(), items);
}

#[test]
fn content_that_does_not_fit_its_form_is_refused() {
    let (a, b) = (record(b"a", b""), record(b"b", b""));
    assert!(raw(&[a.clone(), b.clone(), end()].concat()).is_ok());
    for wrong in [
        a.clone(),
        [b.clone(), a.clone(), end()].concat(),
        [a.clone(), a.clone(), end()].concat(),
        [a.clone(), end(), b.clone()].concat(),
        [end(), end()].concat(),
        [end(), vec![0]].concat(),
        [record(b"", b""), end()].concat(),
        [record(MARK_RECORD, b""), end()].concat(),
        [record(&[9; 2000], b""), end()].concat(),
        [record(b"a", &[9; 9000]), end()].concat(),
        [vec![3], end()].concat(),
        end()[..end().len() - 1].to_vec(),
    ] {
        assert!(raw(&wrong).is_err());
    }
}

/// Any bytes end in an answer: `SR_SOAK=1` tries a hundred thousand.
#[test]
fn no_bytes_make_the_decoder_panic() {
    let rounds = strongroom_soak::size(2_000, 100_000);
    let whole = [record(b"a", b"one"), record(b"b", &[7; 300]), end()].concat();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let mut refused = 0_usize;
    for _ in 0..rounds {
        let mut bytes = whole.clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = u8::try_from(next() % 256).unwrap();
        }
        bytes.truncate(next() % (bytes.len() * 2));
        refused += usize::from(!bytes.is_empty() && raw(&bytes).is_err());
    }
    assert!(refused > rounds / 4 && refused < rounds);
}
