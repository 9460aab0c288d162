//! Names behind the filters: a lookup by the confined program.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom_policy::name::HostName;
use strongroom_policy::refusal::Refusal;
use tokio::net::UdpSocket;

use super::scene::{Scene, chat};

/// Answers every question for IPv4 addresses with `address`, and every other with none.
async fn nameserver(address: Ipv4Addr) -> (String, Arc<AtomicU32>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut query = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut query).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            socket.send_to(&reply(&query[..length], address), from).await.unwrap();
        }
    });
    (at, asked)
}

/// RFC 1035, 4: the question repeated, and a record that points to its name.
fn reply(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let question = &query[12..name_end + 4];
    let is_a = query[name_end..name_end + 2] == [0, 1];
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend(question);
    if is_a {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn the_confined_courier_resolves_names_and_checks_what_they_lead_to() {
    let (server, asked) = nameserver(Ipv4Addr::LOCALHOST).await;
    let scene = Scene::start_with(&["--dns", &server]).await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", "hi");
    let private = strongroom_policy::destination::Reach::Private;
    let public = strongroom_policy::destination::Reach::Public;
    for (reach, ending) in [(private, Ok(())), (public, Err(Refusal::ProviderAddress))] {
        let mut errand = scene.errand(&body);
        errand.destination.host = HostName::parse("machine.example").unwrap();
        errand.destination.reach = reach;
        // A connection of its own for each.
        errand.credential_version = if reach == public { 7 } else { 8 };
        let (ticket, _) = scene.admit(errand);
        lane.send(ticket, &body).await;
        assert_eq!(lane.answer().await.ending, ending, "{reach:?}");
    }
    assert!(asked.load(Ordering::Relaxed) > 0);
}
