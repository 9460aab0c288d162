//! Streams under pressure, at their end, and what they ask of the kernel.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn pair() -> ((Reader, Writer), (Reader, Writer)) {
    let (here, there) = UnixStream::pair().unwrap();
    for end in [&here, &there] {
        setsockopt(&end.as_fd(), sockopt::SndBuf, &4096).unwrap();
    }
    (split(here).unwrap(), split(there).unwrap())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[tokio::test]
async fn more_than_fits_waits_for_room_and_arrives_whole() {
    let ((_reader, mut writer), (mut there, _other)) = pair();
    let sent = pattern(1_000_000);
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer
    });
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        assert_ne!(there.read_buf(&mut seen).await.unwrap(), 0);
        tokio::task::yield_now().await;
    }
    assert!(seen == expected);
    let writer = sending.await.unwrap();
    assert!(writer.held_up.is_none(), "room is still asked for");
}

#[tokio::test]
async fn a_write_without_room_waits_until_the_peer_reads() {
    let ((_reader, mut writer), (mut there, _other)) = pair();
    let block = vec![7; 64 * 1024];
    let full = timeout(Duration::from_millis(50), writer.write_all(&block)).await;
    assert!(full.is_err(), "64 KiB went into a buffer of 4");
    assert!(writer.held_up.is_some());
    let mut some = vec![0; 4096];
    let written = timeout(PATIENCE, async {
        let mut write = std::pin::pin!(writer.write(b"x"));
        loop {
            // The kernel tells of room only when most of the buffer is free.
            tokio::select! {
                biased;
                written = &mut write => return written,
                read = there.read(&mut some) => assert_ne!(read.unwrap(), 0),
            }
        }
    });
    let written = written.await.unwrap();
    assert_eq!(written.unwrap(), 1);
}

#[tokio::test]
async fn an_end_is_seen_after_the_last_byte_even_when_both_were_there_before() {
    let ((mut reader, writer), (_there, mut other)) = pair();
    other.write_all(b"last words").await.unwrap();
    drop(other);
    drop(writer);
    let mut seen = Vec::new();
    let read = timeout(PATIENCE, reader.read_to_end(&mut seen)).await;
    assert_eq!((read.unwrap().unwrap(), seen.as_slice()), (10, &b"last words"[..]));
}

#[tokio::test]
async fn each_piece_of_many_wakes_its_reader() {
    let ((_reader, mut writer), (mut there, _other)) = pair();
    let reading = tokio::spawn(async move {
        let mut seen = 0;
        let mut some = [0; 4096];
        while seen < 10_000 {
            seen += there.read(&mut some).await.unwrap();
        }
    });
    for _ in 0..1000 {
        writer.write_all(&[1; 10]).await.unwrap();
        tokio::task::yield_now().await;
    }
    timeout(PATIENCE, reading).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_read_asks_for_more_only_while_it_gets_what_it_asked_for() {
    let ((_reader, mut writer), (mut there, _other)) = pair();
    let sending = tokio::spawn(async move { writer.write_all(&pattern(300_000)).await });
    let mut seen = vec![0; 300_000];
    there.read_exact(&mut seen).await.unwrap();
    assert!(seen == pattern(300_000));
    sending.await.unwrap().unwrap();
    assert!((LEAST_READ_BYTES..=MOST_READ_BYTES).contains(&there.wanted_bytes));
}

#[tokio::test]
async fn slices_are_written_in_their_order() {
    let ((_reader, mut writer), (mut there, _other)) = pair();
    let slices = [b"".as_slice(), b"one", b"", b"two"].map(IoSlice::new);
    assert_eq!(writer.write_vectored(&slices).await.unwrap(), 6);
    assert_eq!(writer.write_vectored(&slices[..2]).await.unwrap(), 3);
    let mut seen = [0; 9];
    there.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"onetwoone");
}

#[tokio::test]
async fn a_peer_that_is_gone_is_an_error_to_the_writer() {
    let ((_reader, mut writer), there) = pair();
    drop(there);
    assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn one_slice_and_many_arrive_in_their_order() {
    let (here, mut there) = tokio::io::duplex(64);
    let mut stream = OneSlice(here);
    let slices = [b"".as_slice(), b"one", b"", b"two"].map(IoSlice::new);
    assert_eq!(stream.write_vectored(&slices[..2]).await.unwrap(), 3);
    let mut copy = slices;
    let mut all = &mut copy[..];
    while !all.is_empty() {
        let written = stream.write_vectored(all).await.unwrap();
        IoSlice::advance_slices(&mut all, written);
    }
    stream.shutdown().await.unwrap();
    let mut seen = String::new();
    there.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "oneonetwo");
    there.write_all(b"back").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"back");
}

#[tokio::test]
async fn parts_are_written_whole_through_a_stream_that_takes_little() {
    let (mut here, mut there) = tokio::io::duplex(3);
    let sending = async {
        write_parts(&mut here, [b"head", b"", b"body", b"tail"]).await.unwrap();
        drop(here);
    };
    let mut seen = String::new();
    let ((), read) = tokio::join!(sending, there.read_to_string(&mut seen));
    assert_eq!((read.unwrap(), seen.as_str()), (12, "headbodytail"));
}
