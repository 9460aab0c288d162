//! Turns a destination's host into addresses that were checked, and dials exactly those.
//!
//! Invariant: nameservers and hosts are read once, by `Resolver::load`, before confinement; no file is touched afterwards.
//! Invariant: what is dialled is the address that was checked, not the name: a second DNS answer has no say.
//! Invariant: an address that the operator wrote into the overrides needs no further leave; every other one does.
//!
//! Trusts: `/etc/hosts`, `/etc/resolv.conf` and the operator's settings.
//! Distrusts: DNS answers.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::xfer::Protocol;
use strongroom_policy::destination::Reach;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::{self, Forbidden};

/// Most addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 8;
/// How long one address may take to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The courier's own DNS.
pub struct Resolver {
    dns: TokioResolver,
    overrides: HashMap<String, Vec<IpAddr>>,
    hosts: HashMap<String, Vec<IpAddr>>,
}

/// Why nothing can be dialled.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The name has no address, or DNS does not answer.
    #[error("the name does not resolve")]
    Unresolved,
    /// All addresses of the name are out of the destination's reach.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No address took the connection in time.
    #[error("no address of the host takes a connection: {0}")]
    Refused(#[source] io::Error),
}

impl Resolver {
    /// Reads what the system says about names. `dns_servers`, when given, replace the system's. Names in `overrides` lead to
    /// their addresses only, private ones included.
    ///
    /// # Errors
    /// When no nameserver is known.
    pub fn load(
        dns_servers: &[SocketAddr],
        overrides: HashMap<String, Vec<IpAddr>>,
    ) -> io::Result<Self> {
        let servers = if dns_servers.is_empty() {
            nameservers(&std::fs::read_to_string("/etc/resolv.conf")?)
        } else {
            dns_servers.to_vec()
        };
        if servers.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no nameserver in /etc/resolv.conf",
            ));
        }
        let hosts = match std::fs::read_to_string("/etc/hosts") {
            Ok(text) => parse_hosts(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self::new(&servers, hosts, overrides))
    }

    fn new(
        servers: &[SocketAddr],
        hosts: HashMap<String, Vec<IpAddr>>,
        overrides: HashMap<String, Vec<IpAddr>>,
    ) -> Self {
        let mut config = ResolverConfig::new();
        for server in servers {
            config.add_name_server(NameServerConfig::new(*server, Protocol::Udp));
            config.add_name_server(NameServerConfig::new(*server, Protocol::Tcp));
        }
        let mut builder =
            TokioResolver::builder_with_config(config, TokioConnectionProvider::default());
        *builder.options_mut() = options();
        let overrides = overrides
            .into_iter()
            .map(|(name, addresses)| (name.to_ascii_lowercase(), addresses))
            .collect();
        Self { dns: builder.build(), overrides, hosts }
    }

    /// The addresses of `host` that may be dialled, IPv4 and IPv6 in turn.
    ///
    /// # Errors
    /// When there is none.
    pub async fn addresses(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
    ) -> Result<Vec<SocketAddr>, Unreachable> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(addresses) = self.overrides.get(&name) {
            return Ok(addresses.iter().map(|address| SocketAddr::new(*address, port)).collect());
        }
        let found = if let Some(literal) = parse_literal(&name) {
            vec![literal]
        } else if let Some(addresses) = self.hosts.get(&name) {
            addresses.clone()
        } else {
            self.ask(&name).await?
        };
        let mut forbidden = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match address::check(address, reach) {
                Ok(()) => allowed.push(address),
                Err(error) => forbidden = Some(error),
            }
        }
        match (allowed.is_empty(), forbidden) {
            (true, Some(error)) => Err(error.into()),
            (true, None) => Err(Unreachable::Unresolved),
            (false, _) => Ok(in_turn(&allowed, port)),
        }
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, Unreachable> {
        // The final dot keeps search domains out.
        let lookup = timeout(DNS_TIMEOUT, self.dns.lookup_ip(format!("{name}.")));
        match lookup.await {
            Ok(Ok(answer)) => Ok(answer.iter().collect()),
            Ok(Err(_)) | Err(_) => Err(Unreachable::Unresolved),
        }
    }
}

/// Connects to the first address that answers, each within `per_address`.
///
/// # Errors
/// The last address's error when none does.
pub async fn dial(
    addresses: &[SocketAddr],
    per_address: Duration,
) -> Result<TcpStream, Unreachable> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.iter().take(MAX_ADDRESSES) {
        match timeout(per_address, TcpStream::connect(*address)).await {
            Ok(Ok(stream)) => {
                // Small frames must not wait for acknowledgements.
                stream.set_nodelay(true).map_err(Unreachable::Refused)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(Unreachable::Refused(last))
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    // Both files were read before confinement.
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.cache_size = CACHED_RECORDS;
    options.positive_max_ttl = Some(Duration::from_mins(5));
    options.negative_max_ttl = Some(Duration::from_secs(5));
    // A forged answer has to guess the letters' case as well.
    options.case_randomization = true;
    options
}

/// One of each family in turn, so that a broken one costs one time-out only.
fn in_turn(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let mut fours = addresses.iter().filter(|address| address.is_ipv4());
    let mut sixes = addresses.iter().filter(|address| address.is_ipv6());
    let mut ordered = Vec::with_capacity(addresses.len().min(MAX_ADDRESSES));
    loop {
        let pair = [fours.next(), sixes.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if ordered.len() < MAX_ADDRESSES {
                ordered.push(SocketAddr::new(*address, port));
            }
        }
    }
}

fn parse_literal(name: &str) -> Option<IpAddr> {
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse().ok()
}

fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        for name in words {
            hosts.entry(name.to_ascii_lowercase()).or_default().push(address);
        }
    }
    hosts
}

fn nameservers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
            address.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT))
        })
        .take(MAX_NAMESERVERS)
        .collect()
}

/// A few dozen providers with a handful of records each.
const CACHED_RECORDS: usize = 256;
const DNS_PORT: u16 = 53;
/// Two servers, two attempts, two seconds each.
const DNS_TIMEOUT: Duration = Duration::from_secs(8);
/// As in resolv.conf(5).
const MAX_NAMESERVERS: usize = 3;

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    fn offline(hosts: &str, overrides: &[(&str, &str)]) -> Resolver {
        let overrides = overrides
            .iter()
            .map(|(name, address)| ((*name).to_owned(), vec![address.parse().unwrap()]))
            .collect();
        Resolver::new(&["127.0.0.1:1".parse().unwrap()], parse_hosts(hosts), overrides)
    }

    /// Answers each question of type A with `addresses`, AAAA with nothing.
    async fn lying_dns(addresses: &'static [[u8; 4]]) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let end = 12 + question[12..length].iter().position(|&byte| byte == 0).unwrap() + 5;
                let is_a = question[end - 3] == 1;
                let count = if is_a { addresses.len().to_be_bytes()[7] } else { 0 };
                let mut answer = question[..end].to_vec();
                answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
                for address in addresses.iter().take(usize::from(count)) {
                    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                    answer.extend_from_slice(address);
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        at
    }

    #[tokio::test]
    async fn literals_and_hosts_are_checked_like_names() {
        let resolver = offline("127.0.0.1 localhost box # a comment\n8.8.8.8 Dns.Example\n", &[]);
        for host in
            ["127.0.0.1", "169.254.169.254", "[::1]", "::ffff:10.0.0.1", "localhost", "BOX."]
        {
            let answer = resolver.addresses(host, 443, Reach::Public).await;
            assert!(matches!(answer, Err(Unreachable::Forbidden(_))), "{host}");
        }
        let found = resolver.addresses("dns.example", 443, Reach::Public).await.unwrap();
        assert_eq!(found, ["8.8.8.8:443".parse().unwrap()]);
        let private = resolver.addresses("localhost", 8443, Reach::Private).await.unwrap();
        assert_eq!(private, ["127.0.0.1:8443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn an_override_is_the_operators_word() {
        let resolver = offline("", &[("API.example.com", "127.0.0.1")]);
        let found = resolver.addresses("api.example.com", 9, Reach::Public).await.unwrap();
        assert_eq!(found, ["127.0.0.1:9".parse().unwrap()]);
    }

    #[tokio::test]
    async fn of_a_mixed_answer_only_the_public_address_is_left() {
        let dns = lying_dns(&[[169, 254, 169, 254], [8, 8, 4, 4], [127, 0, 0, 1]]).await;
        let resolver = Resolver::new(&[dns], HashMap::new(), HashMap::new());
        let found = resolver.addresses("rebind.example", 443, Reach::Public).await.unwrap();
        assert_eq!(found, ["8.8.4.4:443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_leads_nowhere() {
        let dns = lying_dns(&[[10, 0, 0, 1], [192, 168, 0, 1]]).await;
        let resolver = Resolver::new(&[dns], HashMap::new(), HashMap::new());
        let answer = resolver.addresses("inside.example", 443, Reach::Public).await;
        assert!(matches!(answer, Err(Unreachable::Forbidden(_))));
    }

    #[tokio::test]
    async fn dialling_goes_on_to_the_next_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let stream = dial(&[closed, open], CONNECT_TIMEOUT).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(matches!(dial(&[closed], CONNECT_TIMEOUT).await, Err(Unreachable::Refused(_))));
        assert!(matches!(dial(&[], CONNECT_TIMEOUT).await, Err(Unreachable::Refused(_))));
    }

    #[test]
    fn families_take_turns_and_the_list_is_bounded() {
        let addresses: Vec<IpAddr> = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "2606::1", "2606::2"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let ordered: Vec<String> =
            in_turn(&addresses, 1).iter().map(|at| at.ip().to_string()).collect();
        assert_eq!(ordered, ["1.1.1.1", "2606::1", "1.1.1.2", "2606::2", "1.1.1.3"]);
        assert_eq!(in_turn(&[addresses[0]; 50], 1).len(), MAX_ADDRESSES);
    }

    #[test]
    fn nameservers_are_read_as_the_system_reads_them() {
        let text =
            "# c\nsearch a b\nnameserver 10.0.0.2\n nameserver ::1 \noptions x\nnameserver bad\n";
        assert_eq!(
            nameservers(text),
            ["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
    }
}
