//! Who may speak for others: sets of addresses, the words that name them, and Cloudflare's ranges.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

/// The date of the list that [`CLOUDFLARE_RANGES`] holds.
pub const CLOUDFLARE_RANGES_DATE: &str = "2023-09-28";

/// The addresses that Cloudflare connects to origins from: <https://www.cloudflare.com/ips-v4> and `ips-v6`, whose last change was that of
/// [`CLOUDFLARE_RANGES_DATE`]. They change every few years; `--cloudflare-ranges` replaces them without a new release.
pub const CLOUDFLARE_RANGES: [&str; 22] = [
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "2400:cb00::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2405:b500::/32",
    "2405:8100::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
];

/// What the word `private` stands for: loopback, RFC 1918, and IPv6 unique local addresses (RFC 4193). Neither link-local addresses nor
/// carrier-grade NAT (100.64.0.0/10): those are other people's machines.
const PRIVATE_RANGES: [&str; 6] = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"];

/// What the word `all` stands for.
const ALL_RANGES: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Bits of `::ffff:0:0/96`, which IPv4-mapped addresses begin with (RFC 4291 section 2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

/// A set of addresses. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`, as a dual-stack socket shows it) counts as the IPv4 address.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IpSet {
    // Sorted, apart from each other, both ends included.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// Why a list of words is no set of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPeers {
    /// Neither address, nor range, nor word.
    #[error("`{0}` is neither an address, nor a range like 10.0.0.0/8, nor one of the words cloudflare, private, all, none")]
    Word(String),
    /// A range with bits behind its prefix: one address may have been meant, or the whole range.
    #[error("`{word}` has bits set behind its prefix: write {range}, or the address alone")]
    HostBits {
        /// What was written.
        word: String,
        /// The range it lies in.
        range: IpNet,
    },
    /// `none` beside other words.
    #[error("`none` can't stand beside other words")]
    None,
}

/// What a peer's word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Anyone: what it says about others is dropped.
    Untrusted,
    /// A proxy of ours: its `X-Forwarded-*` are believed.
    Trusted,
    /// Cloudflare: `CF-Connecting-IP` and `X-Forwarded-For` and `-Proto` are believed. It passes whatever else its visitor sent.
    Cloudflare,
}

/// Which peers are trusted (`--trusted-proxies`). The default trusts nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    trusted: IpSet,
    cloudflare: IpSet,
}

impl Trust {
    /// Parses the words of `--trusted-proxies` (see [`IpSet::parse`]). An address counts as [`Peer::Cloudflare`] only if the word `cloudflare`
    /// is among them.
    pub fn parse(words: &[String], cloudflare: Option<&[IpNet]>) -> Result<Self, BadPeers> {
        let trusted = IpSet::parse(words, cloudflare)?;
        let named = words.iter().any(|word| word.trim() == "cloudflare");
        let cloudflare = if named { IpSet::from_nets(&cloudflare_ranges(cloudflare)) } else { IpSet::default() };
        Ok(Self { trusted, cloudflare })
    }

    /// What the word of `peer` counts.
    pub fn classify(&self, peer: IpAddr) -> Peer {
        if self.cloudflare.contains(peer) {
            Peer::Cloudflare
        } else if self.trusted.contains(peer) {
            Peer::Trusted
        } else {
            Peer::Untrusted
        }
    }
}

impl IpSet {
    /// Parses words, each an address, a range, `cloudflare` ([`CLOUDFLARE_RANGES`], unless `cloudflare` replaces them), `private` (loopback,
    /// RFC 1918, unique local), `all`, or, alone, `none`. No words: the empty set.
    pub fn parse(words: &[String], cloudflare: Option<&[IpNet]>) -> Result<Self, BadPeers> {
        let mut nets = Vec::new();
        for word in words {
            match word.trim() {
                "cloudflare" => nets.extend(cloudflare_ranges(cloudflare)),
                "private" => nets.extend(built_in(&PRIVATE_RANGES)),
                "all" => nets.extend(built_in(&ALL_RANGES)),
                "none" if words.len() == 1 => {}
                "none" => return Err(BadPeers::None),
                word => nets.push(net(word)?),
            }
        }
        Ok(Self::from_nets(&nets))
    }

    /// The set of all addresses in `nets`. Bits behind a prefix are ignored.
    pub fn from_nets(nets: &[IpNet]) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for net in nets {
            match unmapped(*net) {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }

    /// Whether `address` is in the set: a binary search.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, u32::from(address)),
            IpAddr::V6(address) => within(&self.v6, u128::from(address)),
        }
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl fmt::Debug for IpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.v4.iter().map(|&(first, last)| (IpAddr::from(first.to_be_bytes()), IpAddr::from(last.to_be_bytes())));
        let v6 = self.v6.iter().map(|&(first, last)| (IpAddr::from(first.to_be_bytes()), IpAddr::from(last.to_be_bytes())));
        f.debug_set().entries(v4.chain(v6).map(|(first, last)| format!("{first}-{last}"))).finish()
    }
}

fn cloudflare_ranges(replacement: Option<&[IpNet]>) -> Vec<IpNet> {
    replacement.map_or_else(|| built_in(&CLOUDFLARE_RANGES), <[IpNet]>::to_vec)
}

/// A test proves that every built-in range parses.
fn built_in(ranges: &[&str]) -> Vec<IpNet> {
    ranges.iter().filter_map(|range| range.parse().ok()).collect()
}

fn net(word: &str) -> Result<IpNet, BadPeers> {
    if let Ok(address) = IpAddr::from_str(word) {
        return Ok(IpNet::from(address));
    }
    let net = IpNet::from_str(word).map_err(|_| BadPeers::Word(word.to_owned()))?;
    if net == net.trunc() { Ok(net) } else { Err(BadPeers::HostBits { word: word.to_owned(), range: net.trunc() }) }
}

/// `::ffff:10.0.0.0/104` is 10.0.0.0/8, since that is how addresses are looked up.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let (Some(address), Some(prefix)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED_PREFIX)) else {
        return net;
    };
    Ipv4Net::new(address, prefix).map_or(net, IpNet::V4)
}

fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out.into_boxed_slice()
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|&(first, _)| first <= address);
    behind.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|&(_, last)| address <= last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn words_name_addresses() {
        for (given, inside, outside) in [
            ("", "", "127.0.0.1 ::1"),
            ("none", "", "127.0.0.1 ::1"),
            ("all", "0.0.0.0 255.255.255.255 :: ::ffff:1.2.3.4 ffff::", ""),
            ("192.0.2.7", "192.0.2.7 ::ffff:192.0.2.7", "192.0.2.6 192.0.2.8"),
            ("::1", "::1", "::2 0.0.0.1"),
            ("10.0.0.0/8", "10.0.0.0 10.255.255.255 ::ffff:10.1.1.1", "9.255.255.255 11.0.0.0 ::10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3 ::ffff:10.1.2.3", "11.0.0.0"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("::/0", "::1 ffff::", "192.0.2.1 ::ffff:192.0.2.1"),
            ("10.0.0.0/8 10.1.0.0/16 11.0.0.0/8", "10.0.0.1 10.1.0.1 10.2.0.1 11.255.255.255", "12.0.0.0"),
            (
                "private",
                "127.0.0.1 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 ::1 fd00::1",
                "172.32.0.0 169.254.169.254 100.64.0.1 fe80::1 8.8.8.8",
            ),
            (
                "cloudflare",
                "173.245.48.1 104.16.0.1 172.71.255.255 2606:4700::1 2a06:98c7::1",
                "104.28.0.0 172.72.0.0 2606:4701::1 127.0.0.1",
            ),
            ("cloudflare 127.0.0.1", "104.16.0.1 127.0.0.1", "127.0.0.2"),
        ] {
            let set = IpSet::parse(&words(given), None).unwrap_or_else(|error| panic!("{given}: {error}"));
            for address in inside.split_whitespace() {
                assert!(set.contains(ip(address)), "{given}: {address} should be inside");
            }
            for address in outside.split_whitespace() {
                assert!(!set.contains(ip(address)), "{given}: {address} should be outside");
            }
            assert_eq!(set.is_empty(), inside.is_empty(), "{given}");
        }
    }

    #[test]
    fn bad_words_say_what_to_write() {
        for (given, message) in [
            ("cloudfare", "`cloudfare` is neither"),
            ("10.0.0.0/33", "`10.0.0.0/33` is neither"),
            ("10.0.0", "`10.0.0` is neither"),
            ("10.1.2.3/8", "write 10.0.0.0/8"),
            ("none all", "can't stand beside"),
        ] {
            let error = IpSet::parse(&words(given), None).unwrap_err().to_string();
            assert!(error.contains(message), "{given}: {error}");
        }
        assert!(IpSet::parse(&[String::new()], None).is_err());
    }

    #[test]
    fn built_in_ranges_are_valid_and_all_in_use() {
        for ranges in [&CLOUDFLARE_RANGES[..], &PRIVATE_RANGES, &ALL_RANGES] {
            assert_eq!(built_in(ranges).len(), ranges.len());
            assert!(built_in(ranges).iter().all(|net| *net == net.trunc()));
        }
    }

    #[test]
    fn cloudflare_is_cloudflare_only_by_that_word() {
        use Peer::{Cloudflare, Trusted, Untrusted};
        let replaced: [IpNet; 1] = ["203.0.113.0/24".parse().unwrap()];
        for (given, replacement, address, peer) in [
            ("", None, "104.16.0.1", Untrusted),
            ("10.0.0.0/8", None, "104.16.0.1", Untrusted),
            ("10.0.0.0/8", None, "10.0.0.1", Trusted),
            ("104.16.0.0/13", None, "104.16.0.1", Trusted),
            ("all", None, "104.16.0.1", Trusted),
            ("cloudflare", None, "104.16.0.1", Cloudflare),
            ("cloudflare", None, "::ffff:104.16.0.1", Cloudflare),
            ("cloudflare all", None, "104.16.0.1", Cloudflare),
            ("cloudflare all", None, "10.0.0.1", Trusted),
            ("cloudflare", None, "10.0.0.1", Untrusted),
            ("cloudflare", Some(&replaced[..]), "104.16.0.1", Untrusted),
            ("cloudflare", Some(&replaced[..]), "203.0.113.9", Cloudflare),
            ("private", Some(&replaced[..]), "203.0.113.9", Untrusted),
        ] {
            assert_eq!(Trust::parse(&words(given), replacement).unwrap().classify(ip(address)), peer, "{given}: {address}");
        }
        assert_eq!(Trust::default().classify(ip("127.0.0.1")), Untrusted);
    }

    proptest! {
        #[test]
        fn contains_agrees_with_asking_each_range(
            nets in proptest::collection::vec((any::<u16>(), 0..=32u8), 0..8),
            addresses in proptest::collection::vec(any::<u16>(), 16),
        ) {
            // Few bits, at both ends, so that ranges overlap and touch.
            let address = |bits: u16| std::net::Ipv4Addr::new(bits.to_be_bytes()[0] & 3, 0, 0, bits.to_be_bytes()[1] & 7);
            let nets: Vec<IpNet> = nets.into_iter().map(|(bits, prefix)| Ipv4Net::new(address(bits), prefix).unwrap().into()).collect();
            let set = IpSet::from_nets(&nets);
            for bits in addresses {
                let address = IpAddr::V4(address(bits));
                prop_assert_eq!(set.contains(address), nets.iter().any(|net| net.contains(&address)));
            }
        }
    }
}
