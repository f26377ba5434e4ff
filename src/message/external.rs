//! Which addresses an `ExternalName` Service may lead to: none of the node's own, and no cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata and agent services at addresses that no general rule covers: Alibaba Cloud, Azure's wire server, Oracle Cloud. (AWS, Google and
/// most others answer on 169.254.0.0/16.)
const METADATA_V4: [Ipv4Addr; 3] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// AWS's metadata, DNS and time services, all in `fd00:ec2::/32`, and Google Cloud's metadata service.
const AWS_V6: [u16; 2] = [0xfd00, 0x0ec2];
const GOOGLE_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Whether a name that somebody wrote into an `ExternalName` Service may lead to `address`. Refused are loopback, unspecified, link-local,
/// multicast, broadcast and reserved addresses, and those of metadata services, also where an IPv6 address carries an IPv4 one: mapped,
/// compatible, NAT64 (RFC 6052), 6to4 (RFC 3056). Private addresses are allowed: a database beside the cluster is what `ExternalName` is for.
pub fn allowed_external(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => allowed_v4(address),
        IpAddr::V6(address) => allowed_v6(address) && carried_v4(address).is_none_or(allowed_v4),
    }
}

fn allowed_v4(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this host" (RFC 1122), and Linux connects 0.0.0.0 to loopback; 240.0.0.0/4 is reserved, and ends in the broadcast address.
    let [first, ..] = address.octets();
    !(first == 0
        || first >= 240
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || METADATA_V4.contains(&address))
}

fn allowed_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || [first, second] == AWS_V6
        || address == GOOGLE_V6)
}

fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_node_and_of_metadata_services_are_refused() {
        for address in [
            "127.0.0.1",
            "127.43.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
        ] {
            assert!(!allowed_external(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn other_addresses_are_allowed() {
        for address in [
            "93.184.215.14",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "192.0.0.191",
            "169.253.255.255",
            "2606:2800::1",
            "fd00::1",
            "fd20::254",
            "::ffff:93.184.215.14",
            "64:ff9b::93.184.215.14",
            "2002:5db8:d70e::1",
        ] {
            assert!(allowed_external(address.parse().unwrap()), "{address}");
        }
    }
}
