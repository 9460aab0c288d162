//! A name server that lies: every name leads where the test says (ledger row 1, DNS).
//!
//! Invariant: it answers on loopback only and is gone with the test's process.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

/// Starts a name server on `at`: every name has this one address.
pub(crate) fn serve(at: SocketAddr, address: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind(at).expect("a free port");
    let bound = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut query = [0_u8; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = query.get(..length).and_then(|query| answer(query, address)) {
                // Whoever asked may be gone.
                let _gone = socket.send_to(&answer, from);
            }
        }
    });
    bound
}

/// RFC 1035, 4: the question repeated, and for type A one record.
fn answer(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut end = 12;
    while *query.get(end)? != 0 {
        end += usize::from(*query.get(end)?) + 1;
    }
    let question = query.get(12..end + 5)?;
    let wants_a = query.get(end + 1..end + 3)? == [0, 1];
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wants_a), 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    if wants_a {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
