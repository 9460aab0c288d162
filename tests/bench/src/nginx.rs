//! nginx in Strongroom's topology: TLS → A → Unix socket → B → TLS, the key injected in B.
//!
//! Invariant: all that would make it slower for no reason is off (logs, buffering to disk, short keep-alive).

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::child::Running;
use crate::emulator::{KEY, Provider};
use crate::process;
use crate::target::{Target, TargetName};

const START: Duration = Duration::from_mins(1);
/// More than there are connections, so that none is closed for want of a place.
const KEPT: u32 = 1024;

/// The two servers.
#[derive(Debug)]
pub(crate) struct Nginx {
    outer: Running,
    inner: Running,
    target: Target,
}

impl Nginx {
    /// Starts both.
    pub(crate) fn start(
        program: &Path,
        workers: u8,
        provider: &Provider,
        scratch: &Path,
    ) -> Result<Self> {
        let dir = scratch.join("nginx");
        fs::create_dir_all(&dir)?;
        let socket = dir.join("b.sock");
        // Left behind by a killed run; nginx would refuse to bind it.
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let frame = Frame { program, dir: &dir, workers };
        let all = |pid| Some(process::family(pid)).filter(|all| all.len() > usize::from(workers));
        let mut inner = frame.start("b", &inner_server(provider, &socket))?;
        let mut pids = inner.until(START, &dir.join("b.log"), |pid| {
            if socket.exists() { all(pid) } else { None }
        })?;

        let address = free_address()?;
        let mut outer = frame.start("a", &outer_server(provider, &socket, address))?;
        pids.extend(outer.until(START, &dir.join("a.log"), |pid| {
            TcpStream::connect(address).ok().and_then(|_| all(pid))
        })?);
        let target = Target {
            name: TargetName::Nginx,
            address,
            host: format!("localhost:{}", address.port()),
            path: "/v1/chat/completions".to_owned(),
            token: "replaced-on-the-way".to_owned(),
            ca: provider.ca(),
            pids,
        };
        Ok(Self { outer, inner, target })
    }

    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Ends both, the outer one first, so that nothing is cut in the middle.
    pub(crate) fn stop(&mut self) {
        self.outer.stop();
        self.inner.stop();
    }
}

/// The version that was measured.
pub(crate) fn version(program: &Path) -> Result<String> {
    let told = Command::new(program).arg("-v").output().with_context(|| {
        format!("{}: not found (apt-get install nginx-light, or --nginx PATH)", program.display())
    })?;
    Ok(String::from_utf8_lossy(&told.stderr).trim().to_owned())
}

/// A loopback port that is free now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

struct Frame<'a> {
    program: &'a Path,
    dir: &'a Path,
    workers: u8,
}

impl Frame<'_> {
    fn start(&self, name: &str, server: &str) -> Result<Running> {
        let Self { program, dir, workers } = self;
        let place = |what: &str| dir.join(format!("{name}-{what}"));
        // Workers of root would be nobody, who may not enter the scratch directory.
        let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
        let text = format!(
            "{user}\ndaemon off;\nworker_processes {workers};\npid {pid};\n\
             error_log stderr warn;\nevents {{ worker_connections 8192; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n  \
             client_body_temp_path {body};\n  proxy_temp_path {proxy};\n  fastcgi_temp_path {other};\n  \
             uwsgi_temp_path {other};\n  scgi_temp_path {other};\n{server}}}\n",
            pid = place("pid").display(),
            body = place("body").display(),
            proxy = place("proxy").display(),
            other = place("other").display(),
        );
        let file: PathBuf = dir.join(format!("{name}.conf"));
        fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(dir).arg("-e").arg("stderr").arg("-c").arg(&file);
        Running::start(&mut command, Stdio::null(), &dir.join(format!("{name}.log")))
    }
}

const FORWARD: &str = "      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
     proxy_set_header Host localhost;\n      proxy_buffering off;\n      proxy_read_timeout 600s;\n";

fn outer_server(provider: &Provider, socket: &Path, address: SocketAddr) -> String {
    let (leaf, key) = (provider.dir.join("leaf.pem"), provider.dir.join("leaf-key.pem"));
    format!(
        "  upstream b {{ server unix:{}; keepalive {KEPT}; keepalive_requests 1000000000; \
         keepalive_timeout 600s; }}\n  server {{\n    listen {address} ssl backlog=4096;\n    \
         ssl_protocols TLSv1.3;\n    ssl_certificate {};\n    ssl_certificate_key {};\n    \
         location / {{\n      proxy_pass http://b;\n{FORWARD}    }}\n  }}\n",
        socket.display(),
        leaf.display(),
        key.display()
    )
}

fn inner_server(provider: &Provider, socket: &Path) -> String {
    format!(
        "  upstream provider {{ server {}; keepalive {KEPT}; keepalive_requests 1000000000; \
         keepalive_timeout 600s; }}\n  server {{\n    listen unix:{} backlog=4096;\n    \
         location / {{\n      proxy_pass https://provider;\n{FORWARD}      \
         proxy_set_header Authorization \"Bearer {KEY}\";\n      proxy_ssl_protocols TLSv1.3;\n      \
         proxy_ssl_session_reuse on;\n      proxy_ssl_server_name on;\n      proxy_ssl_name localhost;\n      \
         proxy_ssl_verify on;\n      proxy_ssl_trusted_certificate {};\n    }}\n  }}\n",
        provider.address,
        socket.display(),
        provider.ca().display()
    )
}
