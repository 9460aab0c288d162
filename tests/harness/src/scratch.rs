//! Where one appliance lives: a directory that other uids can walk through, and a loopback address of its own.
//!
//! Invariant: two appliances of one machine never share an address; taking port 443 of it is the lock.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Addresses tried before giving up.
const TRIES: u32 = 64;

/// Makes a scratch directory that the processes' own users can walk through.
///
/// # Panics
/// When there is no room for one.
pub fn directory() -> TempDir {
    // Below /tmp and not $TMPDIR: a socket's path must fit 107 bytes.
    let made = tempfile::Builder::new().prefix("sr-").tempdir_in("/tmp").expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(made.path(), open).expect("its owner may open it");
    made
}

/// A loopback address on which `ports` are all free now.
///
/// # Panics
/// When none is found.
pub fn address(ports: &[u16]) -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..TRIES {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        // Spread by process id, so that tests which run side by side rarely try the same one.
        let mixed =
            std::process::id().wrapping_mul(2_654_435_761).wrapping_add(turn.wrapping_mul(40_503));
        let [_, a, b, c] = mixed.to_be_bytes();
        let address = Ipv4Addr::new(127, 64 | (a & 63), b, c.clamp(1, 254));
        let free = |port: &u16| TcpListener::bind(SocketAddr::from((address, *port))).is_ok();
        if ports.iter().all(free) {
            return address;
        }
    }
    panic!(
        "no loopback address has the ports {ports:?} free; tests of the appliance need root, or net.ipv4.ip_unprivileged_port_start=0"
    );
}

/// Where cargo put the programs: beside the test program's directory.
///
/// # Panics
/// When the test program does not know where it is.
pub fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("SR_BINARIES") {
        return PathBuf::from(named);
    }
    let own = std::env::current_exe().expect("a test knows its program");
    let directory = own.parent().and_then(Path::parent).expect("cargo's layout");
    directory.to_owned()
}
