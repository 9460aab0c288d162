//! Which addresses may be dialled: an auditor's page.
//!
//! Invariant: a name that anyone points at a machine of ours, at this host or at a cloud's metadata leads nowhere.
//! Invariant: an address that carries another one inside is judged by what it leads to, or refused.
//! Invariant: metadata, link-local, multicast and unassigned space stay closed even where an operator bound a private machine.
//!
//! Sources: IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and successors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use strongroom_policy::destination::Reach;

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("address {address} is not dialled: {kind:?}")]
pub struct Forbidden {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub kind: Kind,
}

/// What an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Global unicast.
    Public,
    /// Private, shared, loopback or unique-local: allowed where the destination says so.
    Private,
    /// A cloud's metadata service, which hands out credentials.
    Metadata,
    /// Link-local.
    LinkLocal,
    /// Unspecified, multicast, broadcast, documentation, benchmarking, reserved or unassigned.
    Special,
    /// A tunnel or translation whose far end cannot be told.
    Tunnel,
}

/// Checks one address before it is dialled.
///
/// # Errors
/// When `reach` does not cover it.
pub fn check(address: IpAddr, reach: Reach) -> Result<(), Forbidden> {
    let kind = kind(address);
    match (kind, reach) {
        (Kind::Public, _) | (Kind::Private, Reach::Private) => Ok(()),
        (Kind::Private, Reach::Public)
        | (Kind::Metadata | Kind::LinkLocal | Kind::Special | Kind::Tunnel, _) => {
            Err(Forbidden { address, kind })
        }
    }
}

/// What `address` is.
pub fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

#[expect(clippy::match_same_arms, reason = "one arm per registry entry, each with its name")]
fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        // AWS, GCP, Azure, DigitalOcean · AWS ECS, whose link-local block it shares · Alibaba · Oracle.
        [169, 254, 169, 254] | [169, 254, 170, 2] | [100, 100, 100, 200] | [192, 0, 0, 192] => {
            Kind::Metadata
        }
        // Azure's WireServer answers from a public-looking address.
        [168, 63, 129, 16] => Kind::Metadata,
        [169, 254, ..] => Kind::LinkLocal,
        [127 | 10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Kind::Private,
        // This network, protocol assignments, documentation ×3, benchmarking, 6to4 relays.
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [198, 18 | 19, ..]
        | [192, 88, 99, _] => Kind::Special,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => Kind::Special,
        _ => Kind::Public,
    }
}

#[expect(clippy::match_same_arms, reason = "one arm per registry entry, each with its name")]
#[expect(
    clippy::unnested_or_patterns,
    reason = "each alternative is one prefix as the registry writes it"
)]
fn kind_v6(address: Ipv6Addr) -> Kind {
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // AWS, also for ECS and time · GCP.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, _] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Kind::Metadata,
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Special,
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private,
        // IPv4-mapped: the kernel dials the IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, high, low] => kind_v4(inner(high, low)),
        // NAT64 (RFC 6052): networks without IPv4 reach the public one through it, and nothing else may be reached so.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => match kind_v4(inner(high, low)) {
            Kind::Public => Kind::Public,
            Kind::Private | Kind::Metadata | Kind::LinkLocal | Kind::Special | Kind::Tunnel => {
                Kind::Tunnel
            }
        },
        // IPv4-compatible, IPv4-translated, local NAT64, Teredo, 6to4.
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, ..]
        | [0x2001, 0, ..]
        | [0x2002, ..] => Kind::Tunnel,
        // Protocol assignments (benchmarking, ORCHID and others), documentation ×2, segment routing.
        [0x2001, 0x1..=0x1ff, ..]
        | [0x2001, 0xdb8, ..]
        | [0x3fff, 0..=0xfff, ..]
        | [0x5f00, ..] => Kind::Special,
        [0xfc00..=0xfdff, ..] => Kind::Private,
        [0xfe80..=0xfebf, ..] => Kind::LinkLocal,
        // Global unicast is 2000::/3; the rest is unassigned, site-local or multicast.
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[(Kind, &[&str])] = &[
        (
            Kind::Public,
            &[
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.1",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "191.255.255.255",
                "192.0.1.0",
                "192.0.3.0",
                "192.88.98.1",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "198.51.99.1",
                "203.0.112.1",
                "203.0.114.1",
                "223.255.255.255",
                "2606:4700::1111",
                "2a00:1450::1",
                "2001:200::1",
                "2001:4860::8888",
                "2001:db7::1",
                "2001:db9::1",
                "2003::1",
                "::ffff:8.8.8.8",
                "64:ff9b::8.8.8.8",
                "3ffe::1",
                "3fff:1000::1",
            ],
        ),
        (
            Kind::Private,
            &[
                "10.0.0.0",
                "10.255.255.255",
                "127.0.0.1",
                "127.255.255.254",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.0",
                "192.168.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "::1",
                "fc00::1",
                "fdff::1",
                "fd00:ec3::254",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "::ffff:192.168.1.1",
                "::ffff:100.64.0.1",
            ],
        ),
        (
            Kind::Metadata,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "100.100.100.200",
                "192.0.0.192",
                "168.63.129.16",
                "fd00:ec2::254",
                "fd00:ec2::23",
                "fd20:ce::254",
                "::ffff:169.254.169.254",
                "::ffff:100.100.100.200",
            ],
        ),
        (
            Kind::LinkLocal,
            &["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.1.1"],
        ),
        (
            Kind::Special,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "192.0.0.1",
                "192.0.2.1",
                "198.18.0.1",
                "198.19.255.255",
                "198.51.100.1",
                "203.0.113.1",
                "192.88.99.1",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                "ff02::1",
                "ff0e::1",
                "fec0::1",
                "2001:db8::1",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "2001:1ff::1",
                "3fff::1",
                "3fff:fff::1",
                "5f00::1",
                "100::1",
                "4000::1",
                "e000::1",
                "::ffff:0.0.0.0",
                "::ffff:224.0.0.1",
                "::ffff:255.255.255.255",
            ],
        ),
        (
            Kind::Tunnel,
            &[
                "::127.0.0.1",
                "::8.8.8.8",
                "::2",
                "::ffff:0:127.0.0.1",
                "64:ff9b::10.0.0.1",
                "64:ff9b::127.0.0.1",
                "64:ff9b::169.254.169.254",
                "64:ff9b::0.0.0.0",
                "64:ff9b:1::8.8.8.8",
                "2001::1",
                "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                "2002:7f00:1::",
                "2002:a00:1::1",
                "2002:808:808::1",
            ],
        ),
    ];

    #[test]
    fn every_address_of_the_table_is_what_it_is() {
        for (expected, addresses) in TABLE {
            for address in *addresses {
                assert_eq!(kind(address.parse().unwrap()), *expected, "{address}");
            }
        }
    }

    #[test]
    fn a_public_destination_reaches_public_addresses_only() {
        for (kind, addresses) in TABLE {
            for address in *addresses {
                let allowed = check(address.parse().unwrap(), Reach::Public).is_ok();
                assert_eq!(allowed, *kind == Kind::Public, "{address}");
            }
        }
    }

    #[test]
    fn a_private_destination_reaches_no_metadata_link_local_special_or_tunnel() {
        for (kind, addresses) in TABLE {
            for address in *addresses {
                let allowed = check(address.parse().unwrap(), Reach::Private).is_ok();
                assert_eq!(allowed, matches!(kind, Kind::Public | Kind::Private), "{address}");
            }
        }
    }

    #[test]
    fn no_address_that_the_standard_library_calls_local_is_public() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let address = Ipv4Addr::new(first, second, 7, 9);
                let local = address.is_private()
                    || address.is_loopback()
                    || address.is_link_local()
                    || address.is_multicast()
                    || address.is_unspecified();
                assert!(!local || kind_v4(address) != Kind::Public, "{address}");
                assert_eq!(kind_v6(address.to_ipv6_mapped()), kind_v4(address), "{address}");
            }
        }
    }
}
