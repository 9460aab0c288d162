//! The command line of the courier: an auditor's page of its settings.
//!
//! Invariant: an option that is unknown, repeated where it must be single, or malformed stops the start.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;

use strongroom_sys::confine::Layer;

/// What the supervisor says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `--errand PATH`: the keeper's socket.
    pub errand: PathBuf,
    /// `--call PATH`: the socket that is made for the gateway.
    pub call: PathBuf,
    /// `--gateway-uid U`: the only user that gets a lane.
    pub gateway_uid: u32,
    /// `--gateway-gid G`: the group that may enter the socket's directory.
    pub gateway_gid: u32,
    /// `--dns IP:PORT[,…]`: nameservers instead of those in `/etc/resolv.conf`.
    pub dns: Vec<SocketAddr>,
    /// `--host NAME=IP`, repeated: names that lead to these addresses only, private ones included.
    pub hosts: HashMap<String, Vec<IpAddr>>,
    /// `--extra-root FILE`, repeated: PEM certificates trusted beside the public roots.
    pub extra_roots: Vec<PathBuf>,
    /// `--ready-fd N`: an inherited Unix stream that gets one byte once lanes are accepted.
    pub ready_fd: Option<RawFd>,
    /// `--accept-missing a,b`: confinement layers that this kernel may lack.
    pub accept_missing: Vec<Layer>,
    /// `--threads N`: workers; half of the processors when not said.
    pub threads: Option<usize>,
    /// `--dial-port P`, repeated: the TCP ports that it may dial beside those of nameservers; any when not said.
    pub dial_ports: Vec<u16>,
}

/// What is wrong with the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadArguments {
    /// Not an option of ours.
    #[error("unknown option {0}")]
    Unknown(String),
    /// Nothing after an option.
    #[error("{0} needs a value")]
    Valueless(&'static str),
    /// A value that the option does not take.
    #[error("{0} does not take {1}")]
    Value(&'static str, String),
    /// Given twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// Not given.
    #[error("{0} is missing")]
    Missing(&'static str),
}

const OPTIONS: [&str; 11] = [
    "--errand",
    "--call",
    "--gateway-uid",
    "--gateway-gid",
    "--dns",
    "--host",
    "--extra-root",
    "--ready-fd",
    "--accept-missing",
    "--threads",
    "--dial-port",
];
const REPEATED: [&str; 4] = ["--dns", "--host", "--extra-root", "--dial-port"];
const NEEDED: [&str; 4] = ["--errand", "--call", "--gateway-uid", "--gateway-gid"];

impl Arguments {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, BadArguments> {
        let mut words = words;
        let mut arguments = Self::default();
        let mut seen = Vec::new();
        while let Some(word) = words.next() {
            let option = OPTIONS.into_iter().find(|option| *option == word);
            let option = option.ok_or(BadArguments::Unknown(word))?;
            if seen.contains(&option) && !REPEATED.contains(&option) {
                return Err(BadArguments::Twice(option));
            }
            seen.push(option);
            let value = words.next().ok_or(BadArguments::Valueless(option))?;
            arguments
                .take(option, &value)
                .ok_or_else(|| BadArguments::Value(option, value.clone()))?;
        }
        match NEEDED.into_iter().find(|needed| !seen.contains(needed)) {
            Some(missing) => Err(BadArguments::Missing(missing)),
            None => Ok(arguments),
        }
    }

    /// The TCP ports for the kernel to let through; `None` for any. A nameserver whose answer is long is asked over TCP.
    pub fn tcp_ports(&self) -> Option<Vec<u16>> {
        if self.dial_ports.is_empty() {
            return None;
        }
        let mut ports = self.dial_ports.clone();
        ports.extend(self.dns.iter().map(SocketAddr::port));
        if self.dns.is_empty() {
            ports.push(DNS_PORT);
        }
        Some(ports)
    }

    fn take(&mut self, option: &'static str, value: &str) -> Option<()> {
        match option {
            "--errand" => self.errand = PathBuf::from(value),
            "--call" => self.call = PathBuf::from(value),
            "--gateway-uid" => self.gateway_uid = value.parse().ok()?,
            "--gateway-gid" => self.gateway_gid = value.parse().ok()?,
            "--dns" => {
                for server in value.split(',') {
                    self.dns.push(parse_server(server)?);
                }
            }
            "--host" => {
                let (name, address) = value.split_once('=')?;
                let address = address.parse().ok().filter(|_| !name.is_empty())?;
                self.hosts.entry(name.to_ascii_lowercase()).or_default().push(address);
            }
            "--extra-root" => self.extra_roots.push(PathBuf::from(value)),
            "--ready-fd" => self.ready_fd = Some(value.parse().ok()?),
            "--dial-port" => self.dial_ports.push(value.parse().ok().filter(|port| *port > 0)?),
            "--accept-missing" => {
                for layer in value.split(',').filter(|layer| !layer.is_empty()) {
                    self.accept_missing.push(layer.parse().ok()?);
                }
            }
            _ => self.threads = Some(value.parse().ok().filter(|threads| *threads > 0)?),
        }
        Some(())
    }
}

/// An address with a port, or with that of DNS.
fn parse_server(text: &str) -> Option<SocketAddr> {
    let plain = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT));
    text.parse().ok().or_else(plain)
}

const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "--errand /r/e --call /r/c --gateway-uid 7 --gateway-gid 8";

    fn parse(line: &str) -> Result<Arguments, BadArguments> {
        Arguments::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_option_is_read() {
        let all = parse(&format!(
            "{LEAST} --dns 1.1.1.1,[::1]:5353 --dns 127.0.0.1:54 --host API.x.y=10.0.0.1 --host api.x.y=::1 \
             --extra-root /a --extra-root /b --ready-fd 4 --accept-missing seccomp,landlock-tcp --threads 3 \
             --dial-port 443 --dial-port 8443"
        ));
        let all = all.unwrap();
        let dns = ["1.1.1.1:53", "[::1]:5353", "127.0.0.1:54"].map(|text| text.parse().unwrap());
        assert_eq!(all.dns, dns);
        assert_eq!(all.hosts["api.x.y"].len(), 2);
        assert_eq!((all.extra_roots.len(), all.ready_fd, all.threads), (2, Some(4), Some(3)));
        assert_eq!(all.accept_missing, [Layer::SystemCalls, Layer::TcpPorts]);
        assert_eq!((all.gateway_uid, all.gateway_gid), (7, 8));
        assert_eq!(all.tcp_ports().unwrap(), [443, 8443, 53, 5353, 54]);
        assert_eq!(parse(LEAST).unwrap().tcp_ports(), None);
        let one = parse(&format!("{LEAST} --dial-port 443")).unwrap();
        assert_eq!(one.tcp_ports().unwrap(), [443, 53]);
    }

    #[test]
    fn a_wrong_line_is_refused() {
        for bad in [
            "",
            "--errand /r/e --call /r/c --gateway-uid 7",
            &format!("{LEAST} --call /r/d"),
            &format!("{LEAST} --threads 0"),
            &format!("{LEAST} --dial-port 0"),
            &format!("{LEAST} --dns example.org"),
            &format!("{LEAST} --host =1.1.1.1"),
            &format!("{LEAST} --host a=b"),
            &format!("{LEAST} --accept-missing all"),
            &format!("{LEAST} --ready-fd"),
            &format!("{LEAST} --port 1"),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
