//! What the programs are told, computed from the configuration and what was seen of the host; pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use netslot_abi::{ConfigRecord, DHCP_OPTIONS_BYTES, LAYOUT_VERSION, forward, tunnel};

use crate::address::{self, Ipv4Net};
use crate::config::{Config, Forward, Tunnel};
use crate::limits::{GUEST_ROUTES_MAX, NAME_SERVERS_MAX};
use crate::slot::{IfIndex, Mac, SlotId};

/// UDP port of Geneve (RFC 8926).
pub const GENEVE_PORT: u16 = 6081;

/// MAC of the tunnel device inside each slot (geneve mode), the same everywhere.
pub const GENEVE_MAC: Mac = Mac([0x02, 0x4e, 0x53, 0xff, 0xff, 0xfe]);

/// Where the slots' tunnel devices believe to send: the IPv4 dummy address (RFC 7600), which no packet on a wire has.
pub const DUMMY_REMOTE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The same for IPv6: out of the discard prefix (RFC 6666).
pub const DUMMY_REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 8);

/// Everything the programs' record is made of.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The guest's MTU.
    pub mtu: u32,
    /// The device towards the network; 0 = none yet, and nothing is attached to it.
    pub uplink: IfIndex,
    /// This host's address on the tunnel's underlay; `None` = no tunnel over IPv4.
    pub underlay_v4: Option<Ipv4Addr>,
    /// This host's IPv6 address on the tunnel's underlay; `None` = no tunnel over IPv6.
    pub underlay_v6: Option<Ipv6Addr>,
}

impl Settings<'_> {
    /// The record for the `config` map.
    #[must_use]
    pub fn record(&self) -> ConfigRecord {
        let Config { guest, slot_cidr, slot_cidr6, external_cidr, external_cidr6, .. } = self.config;
        let first = SlotId::first(1).next().expect("there is a slot 0");
        // Without both, the slots have no IPv6.
        let v6 = guest.ip6.zip(*slot_cidr6);
        let mss = |headers: u32| u16::try_from(self.mtu.saturating_sub(headers)).unwrap_or(u16::MAX);
        ConfigRecord {
            layout_version: LAYOUT_VERSION,
            slots: self.config.slots_max,
            ifindex_base: self.config.ifindex_base,
            vni_base: self.config.vni_base,
            object_id: super::object_id(),
            uplink: self.uplink.0,
            dhcp_lease_s: guest.dhcp_lease_s,
            forward: match self.config.forward {
                Forward::Stack => forward::STACK,
                Forward::Redirect => forward::REDIRECT,
            },
            tunnel: match self.config.tunnel {
                Tunnel::Off => tunnel::OFF,
                Tunnel::Ebpf => tunnel::EBPF,
                Tunnel::Geneve => tunnel::GENEVE,
            },
            geneve_port: GENEVE_PORT,
            mss_v4: mss(20 + 20),
            mss_v6: mss(40 + 20),
            guest_mac: guest.mac.0,
            gateway_mac: guest.gateway_mac.0,
            geneve_mac: GENEVE_MAC.0,
            reserved: [0; 6],
            guest_v4: guest.ip.addr.octets(),
            gateway_v4: guest.gateway_ip.octets(),
            slot_v4: address::slot_ip(*slot_cidr, first).octets(),
            external_v4: external_cidr.map_or([0; 4], |range| address::slot_ip(range, first).octets()),
            underlay_v4: self.underlay_v4.map_or([0; 4], |address| address.octets()),
            dummy_remote_v4: DUMMY_REMOTE_V4.octets(),
            guest_v6: v6.map_or([0; 16], |(guest, _)| guest.addr.octets()),
            gateway_link_local: link_local(guest.gateway_mac).octets(),
            slot_v6: v6.map_or([0; 16], |(_, range)| address::slot_ip6(range, first).octets()),
            external_v6: external_cidr6.map_or([0; 16], |range| address::slot_ip6(range, first).octets()),
            underlay_v6: self.underlay_v6.map_or([0; 16], |address| address.octets()),
            dummy_remote_v6: DUMMY_REMOTE_V6.octets(),
            dhcp_options: self.dhcp_options(),
        }
    }

    /// The options of every DHCP acknowledgement. The server's address comes first: a refusal carries that one only.
    fn dhcp_options(&self) -> [u8; DHCP_OPTIONS_BYTES] {
        let guest = &self.config.guest;
        let mask = u32::MAX.checked_shl(32 - u32::from(guest.ip.prefix)).unwrap_or(0);
        let gateway = guest.gateway_ip.octets();
        let mut options = Options { bytes: [0; DHCP_OPTIONS_BYTES], len: 0 };
        options.add(54, &gateway);
        options.add(1, &mask.to_be_bytes());
        options.add(3, &gateway);
        options.add(26, &u16::try_from(self.mtu).unwrap_or(u16::MAX).to_be_bytes());
        let servers = &guest.dns[..guest.dns.len().min(NAME_SERVERS_MAX)];
        if !servers.is_empty() {
            let octets: Vec<u8> = servers.iter().flat_map(Ipv4Addr::octets).collect();
            options.add(6, &octets);
        }
        if !guest.routes.is_empty() {
            // RFC 3442: the prefix's length, as many bytes of the network as it covers, the gateway.
            let route = |net: &Ipv4Net| {
                let significant = usize::from(net.prefix).div_ceil(8);
                [&[net.prefix], &net.addr.octets()[..significant], &gateway[..]].concat()
            };
            let routes = guest.routes.iter().take(GUEST_ROUTES_MAX).flat_map(route).collect::<Vec<u8>>();
            options.add(121, &routes);
        }
        options.bytes
    }
}

struct Options {
    bytes: [u8; DHCP_OPTIONS_BYTES],
    len: usize,
}

impl Options {
    fn add(&mut self, code: u8, value: &[u8]) {
        let length = u8::try_from(value.len()).expect("at most 63 bytes, see GUEST_ROUTES_MAX");
        let end = self.len + 2 + value.len();
        self.bytes[self.len..self.len + 2].copy_from_slice(&[code, length]);
        self.bytes[self.len + 2..end].copy_from_slice(value);
        self.len = end;
    }
}

/// All options of full length.
const _: () = assert!(6 + 6 + 6 + 4 + 2 + 4 * NAME_SERVERS_MAX + 2 + 9 * GUEST_ROUTES_MAX <= DHCP_OPTIONS_BYTES);

/// The link-local address that a device with that MAC takes by itself (RFC 4291 appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let Mac([a, b, c, d, e, f]) = mac;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_says_what_the_configuration_says() {
        let mut config = Config {
            slot_cidr6: "fd00:6e73::/64".parse().ok(),
            external_cidr: "203.0.113.0/24".parse().ok(),
            forward: Forward::Redirect,
            ..Config::default()
        };
        config.guest.dns = vec![[9, 9, 9, 9].into(), [1, 1, 1, 1].into()];
        config.guest.ip6 = "fd00::2/64".parse().ok();
        let settings = Settings {
            config: &config,
            mtu: 1_450,
            uplink: IfIndex(7),
            underlay_v4: Some([192, 0, 2, 1].into()),
            underlay_v6: None,
        };
        let record = settings.record();
        assert_eq!((record.slots, record.ifindex_base, record.uplink), (1_000, 100_000, 7));
        assert_eq!((record.slot_v4, record.external_v4), ([100, 64, 0, 2], [203, 0, 113, 2]));
        assert_eq!(record.slot_v6[14..], [0, 2]);
        assert_eq!((record.mss_v4, record.mss_v6, record.forward), (1_410, 1_390, forward::REDIRECT));
        assert_eq!(link_local(config.guest.gateway_mac).to_string(), "fe80::400:acff:fe10:1");
        let expected = [
            &[54, 4, 172, 16, 0, 1][..],
            &[1, 4, 255, 255, 255, 252],
            &[3, 4, 172, 16, 0, 1],
            &[26, 2, 0x05, 0xaa],
            &[6, 8, 9, 9, 9, 9, 1, 1, 1, 1],
        ]
        .concat();
        assert_eq!(record.dhcp_options[..expected.len()], expected);
        assert!(record.dhcp_options[expected.len()..].iter().all(|byte| *byte == 0), "pad bytes");
        let half = Settings { config: &Config { slot_cidr6: None, ..config.clone() }, ..settings }.record();
        assert_eq!(half.guest_v6, [0; 16], "no IPv6 without a range for the slots");
    }
}
