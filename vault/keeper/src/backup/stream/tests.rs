//! The stream against whoever has the file: nothing that was changed is read as something else.

use strongroom_policy::moment::Moment;
use strongroom_sys::Secret;

use super::{CHUNK_BYTES, Header, SEALED_BYTES, StreamError, StreamReader, StreamWriter};
use crate::keys::{Key, StoreId, SystemSeed};
use crate::slots::Generation;

fn seed(byte: u8) -> SystemSeed {
    Key::from_secret(Secret::copy_from(&[byte; 32])).unwrap()
}

fn header() -> Header {
    Header {
        store: StoreId([7; 16]),
        commit: 41,
        when: Moment::from_unix_millis(1_795_000_000_000),
        salt: [3; 32],
        keyring: Generation(12),
        seal: b"seal".to_vec(),
        keyring_payload: vec![5; 300],
    }
}

fn write(header: &Header, plain: &[u8]) -> Vec<u8> {
    let key = header.derive_key(&seed(1)).unwrap();
    let mut writer = StreamWriter::begin(Vec::new(), header, &key).unwrap();
    for part in plain.chunks(1_009) {
        writer.write(part).unwrap();
    }
    let (bytes, length) = writer.finish().unwrap();
    assert_eq!(u64::try_from(bytes.len()).unwrap(), length);
    bytes
}

fn read(mut bytes: &[u8], by: u8) -> Result<Vec<u8>, StreamError> {
    let header = Header::read(&mut bytes)?;
    let mut reader = StreamReader::begin(bytes, &header.derive_key(&seed(by))?)?;
    let mut plain = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        plain.extend_from_slice(chunk);
    }
    Ok(plain)
}

fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[test]
fn every_length_around_a_chunk_is_read_back() {
    for length in [1, 15, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
        let bytes = write(&header(), &plain(length));
        assert_eq!(read(&bytes, 1).unwrap(), plain(length), "{length}");
        let chunks = bytes.len() - header().encode().unwrap().len();
        assert_eq!(chunks, length + length.div_ceil(CHUNK_BYTES) * 16);
    }
}

#[test]
fn the_header_reads_back_and_belongs_to_the_key() {
    let bytes = write(&header(), b"x");
    assert_eq!(Header::read(&mut bytes.as_slice()).unwrap(), header());
    assert!(matches!(read(&bytes, 2), Err(StreamError::Altered(0))));
    // Each byte of the header, payloads included: a change leads to another key, or to no header.
    for at in 0..header().encode().unwrap().len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read(&changed, 1).is_err(), "byte {at}");
    }
}

// Red when `Place::nonce` leaves out the number or the flag.
#[test]
fn cut_moved_repeated_and_joined_chunks_are_refused() {
    let head = header().encode().unwrap().len();
    let bytes = write(&header(), &plain(3 * CHUNK_BYTES));
    let other = write(&Header { salt: [4; 32], ..header() }, &plain(3 * CHUNK_BYTES));
    let chunk = |of: &[u8], number: usize| {
        of[head + number * SEALED_BYTES..head + (number + 1) * SEALED_BYTES].to_vec()
    };
    let make =
        |chunks: &[Vec<u8>]| [vec![bytes[..head].to_vec()], chunks.to_vec()].concat().concat();
    let [a, b, c] = [0, 1, 2].map(|number| chunk(&bytes, number));
    assert!(read(&make(&[a.clone(), b.clone(), c.clone()]), 1).is_ok());
    for wrong in [
        vec![],
        vec![a.clone()],
        vec![a.clone(), b.clone()],
        vec![b.clone(), c.clone()],
        vec![a.clone(), c.clone()],
        vec![b.clone(), a.clone(), c.clone()],
        vec![a.clone(), a.clone(), c.clone()],
        vec![a.clone(), b.clone(), b.clone(), c.clone()],
        vec![a.clone(), b.clone(), c.clone(), c.clone()],
        vec![a.clone(), b.clone(), c.clone(), vec![0]],
        vec![a.clone(), b.clone(), c.clone(), vec![0; 16]],
        vec![a.clone(), chunk(&other, 1), c.clone()],
        vec![a.clone(), b.clone(), chunk(&other, 2)],
    ] {
        assert!(read(&make(&wrong), 1).is_err());
    }
    for length in (0..bytes.len()).step_by(4_093).chain([head, head + 15, head + 16]) {
        assert!(read(&bytes[..length], 1).is_err(), "cut at {length}");
    }
}

#[test]
fn what_is_no_backup_is_named_as_such() {
    assert!(matches!(read(b"", 1), Err(StreamError::Foreign)));
    assert!(matches!(read(b"age-encryption.org/v1\n", 1), Err(StreamError::Foreign)));
    assert!(matches!(read(b"SRbackup\x02", 1), Err(StreamError::UnknownFormat(2))));
    assert!(matches!(read(b"SRbackup\x01", 1), Err(StreamError::Short)));
    let mut long = header().encode().unwrap();
    let at = super::FIXED_BYTES - 8;
    long[at] = 0xFF;
    assert!(matches!(read(&long, 1), Err(StreamError::Header)));
}
