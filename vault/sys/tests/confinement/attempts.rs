//! One attempt, in a process of its own: confine, try, tell.

use std::backtrace::Backtrace;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::time::Duration;
use std::{env, hint, ptr, thread};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, socket,
};
use strongroom_store::{Batch, Choice, Key, StoreError, Value};
use strongroom_sys::LockedKey;
use strongroom_sys::confine::{
    Layer, Options, Profile, Violation, confine, flush_reaches_the_disk,
};
use strongroom_sys::process::{close_descriptors_except, harden, keep_environment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

/// What an attempt finds prepared before the process is confined.
struct Prepared {
    directory: PathBuf,
    port: u16,
    tcp: TcpListener,
    tcp_address: SocketAddr,
    pair: (UnixStream, UnixStream),
    datagrams: (UnixDatagram, UnixDatagram),
    unbound: OwnedFd,
}

pub(crate) fn attempt_alone(
    profile: &str,
    mode: &str,
    attempt: &str,
    directory: &Path,
    port: u16,
) -> ExitCode {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let prepared = Prepared {
        directory: directory.to_owned(),
        port,
        tcp_address: tcp.local_addr().unwrap(),
        tcp,
        pair: UnixStream::pair().unwrap(),
        datagrams: UnixDatagram::pair().unwrap(),
        unbound: socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap(),
    };
    let (data_dir, run_dir) = (directory.join("data"), directory.join("run"));
    let _own_socket = UnixListener::bind(run_dir.join("own.sock"));
    let _second = (mode == "threads").then(|| thread::spawn(thread::park));
    if mode.starts_with("old kernel") {
        imitate_old_kernel();
    }
    let on_violation = if mode == "kill" { Violation::Kill } else { Violation::Errno };
    let accepted = [Layer::Files, Layer::TcpPorts, Layer::Scopes];
    let accept_missing = if mode.ends_with("accepted") { accepted.to_vec() } else { Vec::new() };
    let options = Options { accept_missing, on_violation };
    let profile = match profile {
        "keeper" => Some(Profile::Keeper { data_dir: &data_dir, run_dir: &run_dir }),
        "courier" => Some(Profile::Courier { ports: None }),
        "courier_here" => Some(Profile::Courier { ports: Some(&[port]) }),
        "courier_elsewhere" => Some(Profile::Courier { ports: Some(&[port ^ 1]) }),
        "gateway" => Some(Profile::Gateway),
        "tpm" => Some(Profile::Tpm),
        "software_tpm" => Some(Profile::SoftwareTpm { ports: [port, port] }),
        _ => None,
    };
    // As every process starts: what comes first must not stand in the way of what follows.
    if profile.is_some() {
        harden().unwrap();
        keep_environment(&["PATH"]).unwrap_or_else(|error| println!("{error}"));
    }
    if let Some(Err(error)) = profile.map(|profile| confine(profile, &options)) {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    match perform(attempt, &prepared) {
        Ok(()) => println!("ok"),
        Err(error) => {
            let code = error.raw_os_error().map(Errno::from_raw);
            println!("{}", code.map_or_else(|| error.to_string(), |errno| format!("{errno:?}")));
        }
    }
    ExitCode::SUCCESS
}

/// A kernel without Landlock and `memfd_secret`, as far as this process can tell.
fn imitate_old_kernel() {
    let absent = [libc::SYS_landlock_create_ruleset, libc::SYS_memfd_secret];
    let filter = seccompiler::SeccompFilter::new(
        absent.map(|call| (call, Vec::new())).into(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Panics with the text in its words, as the standard library does.
fn cut_a_letter(text: &str) -> io::Result<()> {
    let (_, rest) = text.split_at(text.len() - 1);
    Err(io::Error::other(rest.to_owned()))
}

fn perform(attempt: &str, at: &Prepared) -> io::Result<()> {
    match attempt {
        "read_passwd" => File::open("/etc/passwd").map(drop),
        "stat_shadow" => fs::metadata("/etc/shadow").map(drop),
        "write_data" => write_and_sync(&at.directory.join("data/file")),
        "write_run" => write_and_sync(&at.directory.join("run/file")),
        "symlink" => symlink("/etc", at.directory.join("data/link")),
        "remove_socket" => fs::remove_file(at.directory.join("run/own.sock")),
        "chmod" => fs::set_permissions(&at.directory, Permissions::from_mode(0o755)),
        "files" => file_life(&at.directory.join("data")),
        "run_program" => Command::new("/bin/true").status().map(drop),
        // Succeeds by not returning; what runs says the word.
        "exec" => Err(Command::new("/bin/echo").arg("ok").exec()),
        "threads" => {
            thread::Builder::new().name("a name".into()).spawn(|| ())?.join().map_err(|_| bad())
        }
        "processors" => thread::available_parallelism().map(drop),
        "backtrace" => {
            // What a panic prints; it asks for the working directory.
            hint::black_box(Backtrace::force_capture().to_string());
            Ok(())
        }
        "abort" => process::abort(),
        "tokio" => tokio_works(),
        "sled" => store_works(&Choice::Sled, &at.directory.join("data/sled")),
        "redb" => store_works(&Choice::Redb, &at.directory.join("data/redb")),
        "panic" => cut_a_letter("sk-CANARY-\u{e4}"),
        "locked_keys" => LockedKey::random().map(drop).map_err(io::Error::other),
        _ => perform_on_sockets(attempt, at).unwrap_or_else(|| perform_raw(attempt)),
    }
}

fn perform_on_sockets(attempt: &str, at: &Prepared) -> Option<io::Result<()>> {
    Some(match attempt {
        "connect_tcp" => TcpStream::connect((Ipv4Addr::LOCALHOST, at.port)).map(drop),
        "connect_other_tcp" => TcpStream::connect(at.tcp_address).map(drop),
        "bind_tcp" => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
        // Alone: the standard library sets an option first.
        "bind_unbound" => {
            let ((at_any, length), socket) = (here(0), at.unbound.as_raw_fd());
            let at_any = (&raw const at_any).cast();
            // SAFETY: an open socket, and a live address of the length that is named.
            raw(|| i64::from(unsafe { libc::bind(socket, at_any, length) }))
        }
        "udp" => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.send_to(b"x", (Ipv4Addr::LOCALHOST, 9)))
            .map(drop),
        "unix_socket" => UnixStream::connect(at.directory.join("outer.sock")).map(drop),
        "unix_datagram_pair" => UnixDatagram::pair().map(drop),
        "connect_inherited" => connect_again(at),
        "dial_by_listener" => shut_down_and_dial(at),
        "dial_in_first_packet" => fast_open(&at.unbound, at.port),
        "datagram_elsewhere" => {
            at.datagrams.0.send_to(b"x", at.directory.join("outer.datagram")).map(drop)
        }
        "udp_unbound" => datagram_to_anyone(),
        "option_device" => option(&at.tcp, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo"),
        "option_filter" => filter_packets(&at.tcp),
        "option_later_dial" => {
            option(&at.unbound, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, &1_i32.to_ne_bytes())
        }
        "option_priority" => {
            option(&at.tcp, libc::SOL_SOCKET, libc::SO_PRIORITY, &1_i32.to_ne_bytes())
        }
        "option_read" => ask_option(&at.tcp, libc::IPPROTO_TCP, libc::TCP_INFO),
        "unix_stream" => pass_a_byte(at),
        "unix_datagram" => pass_a_datagram(at),
        "accept" => accept_once(&at.tcp),
        "listen" => raw(|| {
            // SAFETY: an open socket and a number.
            i64::from(unsafe { libc::listen(at.tcp.as_raw_fd(), 1) })
        }),
        "listen_unbound" => raw(|| {
            // SAFETY: an open socket and a number.
            i64::from(unsafe { libc::listen(at.unbound.as_raw_fd(), 1) })
        }),
        "hardened" => hardened(at),
        _ => return None,
    })
}

fn perform_raw(attempt: &str) -> io::Result<()> {
    let page = 4096;
    let exec = libc::PROT_READ | libc::PROT_EXEC;
    let (flags, read) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ);
    match attempt {
        "fork" => raw(|| {
            // SAFETY: the child ends at once.
            let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
            if child == 0 {
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(0) }
            }
            child
        }),
        // SAFETY: numbers only.
        "trace" => raw(|| unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }),
        "executable_memory" => {
            // SAFETY: a fresh mapping.
            raw(|| unsafe { libc::mmap(ptr::null_mut(), page, exec, flags, -1, 0) } as i64)
        }
        "make_memory_executable" => {
            // SAFETY: a fresh mapping.
            let fresh = unsafe { libc::mmap(ptr::null_mut(), page, read, flags, -1, 0) };
            // SAFETY: that mapping.
            raw(|| i64::from(unsafe { libc::mprotect(fresh, page, exec) }))
        }
        // Signal 0 only asks whether one could be sent.
        "signal_parent" => {
            nix::sys::signal::kill(nix::unistd::Pid::parent(), None).map_err(Into::into)
        }
        "netlink_socket" => {
            // SAFETY: numbers only.
            raw(|| i64::from(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) }))
        }
        "multipath_tcp" => raw(|| {
            // SAFETY: numbers only.
            i64::from(unsafe {
                libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)
            })
        }),
        "receive_message" => receive_message(),
        // SAFETY: numbers only.
        "io_uring" => raw(|| unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, 0) }),
        // SAFETY: numbers only.
        "new_namespace" => raw(|| i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) })),
        "raise_limit" => setrlimit(Resource::RLIMIT_NOFILE, 10, 10).map_err(Into::into),
        "become_dumpable" => nix::sys::prctl::set_dumpable(true).map_err(Into::into),
        // SAFETY: numbers only.
        "secret_memory" => raw(|| unsafe { libc::syscall(libc::SYS_memfd_secret, 0) }),
        // SAFETY: numbers only.
        "sync_file_range" => raw(|| i64::from(unsafe { libc::sync_file_range(1, 0, 0, 0) }))
            .or_else(|error| {
                // Standard output is a pipe, which the call itself refuses.
                if error.raw_os_error() == Some(libc::ESPIPE) { Ok(()) } else { Err(error) }
            }),
        other => panic!("no attempt is called {other}"),
    }
}

fn raw(call: impl FnOnce() -> i64) -> io::Result<()> {
    if call() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive_message() -> io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(b"x")?;
    let mut byte = [0_u8; 1];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    recvmsg::<()>(theirs.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
    Ok(())
}

fn connect_again(at: &Prepared) -> io::Result<()> {
    let address = UnixAddr::new(&at.directory.join("outer.sock"))?;
    Ok(connect(at.pair.0.as_raw_fd(), &address)?)
}

/// A listener that was shut down is an unconnected socket of the network that it was made in.
fn shut_down_and_dial(at: &Prepared) -> io::Result<()> {
    // SAFETY: an open socket and a number.
    raw(|| i64::from(unsafe { libc::shutdown(at.tcp.as_raw_fd(), libc::SHUT_RDWR) }))?;
    fast_open(&at.tcp, at.port)
}

/// Dials without `connect`: the address stands in the call that sends the first bytes.
fn fast_open(socket: &impl AsRawFd, port: u16) -> io::Result<()> {
    let ((to, length), socket) = (here(port), socket.as_raw_fd());
    let (to, word) = ((&raw const to).cast(), b"x".as_ptr().cast());
    // SAFETY: an open socket, and live buffers of the lengths that are named.
    raw(|| unsafe { libc::sendto(socket, word, 1, libc::MSG_FASTOPEN, to, length) } as i64)
}

/// A port of this machine, as the kernel takes it.
fn here(port: u16) -> (libc::sockaddr_in, libc::socklen_t) {
    let sin_addr = libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() };
    let sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
    let address =
        libc::sockaddr_in { sin_family, sin_port: port.to_be(), sin_addr, sin_zero: [0; 8] };
    (address, libc::socklen_t::try_from(size_of_val(&address)).unwrap())
}

/// No `bind`: the kernel chooses the port.
fn datagram_to_anyone() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
    let (to, length) = here(9);
    let (to, socket) = ((&raw const to).cast(), socket.as_raw_fd());
    // SAFETY: an open socket, and a live address of the length that is named.
    raw(|| i64::from(unsafe { libc::connect(socket, to, length) }))
}

fn option(socket: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let (socket, from) = (socket.as_raw_fd(), value.as_ptr().cast());
    // SAFETY: an open socket, and a live buffer of the length that is named.
    raw(|| i64::from(unsafe { libc::setsockopt(socket, level, name, from, length) }))
}

fn ask_option(socket: &impl AsRawFd, level: i32, name: i32) -> io::Result<()> {
    let (mut told, mut length) = ([0_u8; 256], 256);
    let (socket, to) = (socket.as_raw_fd(), told.as_mut_ptr().cast());
    // SAFETY: an open socket, and a live buffer of the length that is named.
    raw(|| i64::from(unsafe { libc::getsockopt(socket, level, name, to, &raw mut length) }))
}

/// A program in the kernel that sees every packet: this one drops all.
fn filter_packets(socket: &impl AsRawFd) -> io::Result<()> {
    let mut refuse = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut refuse };
    let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    let (socket, from) = (socket.as_raw_fd(), (&raw const program).cast());
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: an open socket, and a live program of one instruction.
    raw(|| i64::from(unsafe { libc::setsockopt(socket, level, name, from, length) }))
}

fn pass_a_byte(at: &Prepared) -> io::Result<()> {
    (&at.pair.0).write_all(b"x")?;
    (&at.pair.1).read_exact(&mut [0])
}

fn pass_a_datagram(at: &Prepared) -> io::Result<()> {
    at.datagrams.0.set_write_timeout(Some(Duration::from_secs(1)))?;
    at.datagrams.0.send(b"x")?;
    at.datagrams.1.recv(&mut [0]).map(drop)
}

fn accept_once(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other.map(drop),
    }
}

fn write_and_sync(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"x")?;
    file.sync_all()?;
    file.sync_data()
}

/// What slot files, journal and backups do.
fn file_life(data: &Path) -> io::Result<()> {
    let directory = data.join("tiles");
    fs::create_dir(&directory)?;
    write_and_sync(&data.join("new"))?;
    fs::rename(data.join("new"), directory.join("old"))?;
    let file = OpenOptions::new().read(true).write(true).open(directory.join("old"))?;
    file.set_len(4096)?;
    file.try_lock().map_err(io::Error::other)?;
    fallocate(&file, FallocateFlags::empty(), 0, 8192)?;
    FileExt::read_exact_at(&file, &mut [0; 16], 8)?;
    FileExt::write_all_at(&file, b"x", 8)?;
    fs::copy(directory.join("old"), directory.join("copy"))?;
    if fs::read_dir(&directory)?.count() != 2 || fs::metadata(directory.join("old"))?.len() != 8192
    {
        return Err(bad());
    }
    File::open(&directory)?.sync_all()?;
    fs::remove_file(directory.join("copy"))?;
    fs::remove_dir_all(&directory)
}

/// Made, written, closed, checked by a copy, opened again.
fn store_works(choice: &Choice, path: &Path) -> io::Result<()> {
    let store = choice.create(path, &[7; 16]).map_err(io::Error::other)?;
    for number in 0_u32..20 {
        let batch = (0_u32..100).try_fold(Batch::new(), |batch, part| {
            let key = Key::new(&[number.to_be_bytes(), part.to_be_bytes()].concat())?;
            Ok::<_, StoreError>(batch.put(key, Value::new(&[7; 200])?))
        });
        batch.and_then(|batch| store.commit(batch)).map_err(io::Error::other)?;
    }
    drop(store);
    choice.check(path).map_err(io::Error::other)?;
    let store = choice.open(path).map_err(io::Error::other)?;
    let found = store.scan_all(&mut |_, _| ControlFlow::Continue(()));
    let found = found.map_err(io::Error::other)?;
    if flush_reaches_the_disk() && found == 2000 { Ok(()) } else { Err(bad()) }
}

fn tokio_works() -> io::Result<()> {
    let wait = async {
        let mut signal = signal(SignalKind::terminate())?;
        let (mut one, mut two) = tokio::net::UnixStream::pair()?;
        let echo = tokio::spawn(async move {
            let mut byte = [0];
            AsyncReadExt::read_exact(&mut two, &mut byte).await
        });
        AsyncWriteExt::write_all(&mut one, b"x").await?;
        echo.await.map_err(io::Error::other)??;
        tokio::task::spawn_blocking(|| ()).await.map_err(io::Error::other)?;
        let never = signal.recv();
        let waited = tokio::time::timeout(Duration::from_millis(1), never).await;
        if waited.is_err() { Ok(()) } else { Err(bad()) }
    };
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    threads.block_on(async { tokio::spawn(wait).await.map_err(io::Error::other)? })?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
    });
    Ok(())
}

fn hardened(at: &Prepared) -> io::Result<()> {
    harden().map_err(io::Error::other)?;
    keep_environment(&["PATH"]).map_err(io::Error::other)?;
    close_descriptors_except(&[at.tcp.as_raw_fd()]).map_err(io::Error::other)?;
    let status = fs::read_to_string("/proc/self/status")?;
    let file = at.directory.join("private");
    File::create(&file)?;
    let mode = MetadataExt::mode(&fs::metadata(&file)?) & 0o777;
    let (core, _) = getrlimit(Resource::RLIMIT_CORE)?;
    let closed = at.pair.0.peer_addr().is_err() && at.tcp.local_addr().is_ok();
    let good = status.contains("NoNewPrivs:\t1")
        && !nix::sys::prctl::get_dumpable()?
        && (mode, core) == (0o600, 0)
        && closed
        && env::vars_os().all(|(name, _)| name == "PATH");
    // The closed descriptors must not be closed again by their owners.
    println!("{}", if good { "ok" } else { "not hardened" });
    process::exit(0);
}

fn bad() -> io::Error {
    io::Error::other("wrong outcome")
}
