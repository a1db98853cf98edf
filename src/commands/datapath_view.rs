//! What people and scripts see of a slot's place in the packet path: its addresses, and what was counted for it; pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use netslot_abi::{CounterRecord, DropReason};
use serde::Serialize;

use super::view::{SlotView, lines};
use crate::address;
use crate::config::Config;
use crate::slot::SlotId;

/// What `show` prints.
#[derive(Debug, Serialize)]
pub(super) struct ShowView {
    #[serde(flatten)]
    pub slot: SlotView,
    pub addresses: AddressesView,
    /// `None` where they cannot be read: by other users than root, or where no programs are.
    pub counters: Option<CountersView>,
}

/// A slot's addresses, inside and out, as they follow from the configuration.
#[derive(Debug, Serialize)]
pub(super) struct AddressesView {
    tap: String,
    guest_mac: String,
    guest_ip: String,
    gateway_ip: Ipv4Addr,
    guest_ip6: Option<String>,
    gateway_ip6: Option<Ipv6Addr>,
    host_end: String,
    host_ifindex: u32,
    slot_ip: Ipv4Addr,
    slot_ip6: Option<Ipv6Addr>,
    external_ip: Option<Ipv4Addr>,
    external_ip6: Option<Ipv6Addr>,
}

/// What the programs counted for a slot since the pool was made, whoever had it.
#[derive(Debug, Serialize)]
pub(super) struct CountersView {
    out_packets: u64,
    out_bytes: u64,
    in_packets: u64,
    in_bytes: u64,
    dhcp_replies: u64,
    /// By reason, each that there is.
    drops: BTreeMap<&'static str, u64>,
}

impl AddressesView {
    pub(super) fn of(config: &Config, slot: SlotId) -> Self {
        let guest = &config.guest;
        Self {
            tap: guest.tap.to_string(),
            guest_mac: guest.mac.to_string(),
            guest_ip: guest.ip.to_string(),
            gateway_ip: guest.gateway_ip,
            guest_ip6: guest.ip6.map(|ip| ip.to_string()),
            gateway_ip6: guest.gateway_ip6,
            host_end: address::host_end(slot).to_string(),
            host_ifindex: address::slot_ifindex(config.ifindex_base, slot).0,
            slot_ip: address::slot_ip(config.slot_cidr, slot),
            slot_ip6: config.slot_cidr6.map(|range| address::slot_ip6(range, slot)),
            external_ip: config.external_cidr.map(|range| address::slot_ip(range, slot)),
            external_ip6: config.external_cidr6.map(|range| address::slot_ip6(range, slot)),
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("guest", with(&self.guest_ip, self.guest_ip6.as_ref()) + &format!(", {}", self.guest_mac)),
            ("gateway", with(&self.gateway_ip, self.gateway_ip6.as_ref())),
            ("host end", format!("{}, index {}", self.host_end, self.host_ifindex)),
            ("address", with(&self.slot_ip, self.slot_ip6.as_ref())),
        ];
        if let Some(external) = self.external_ip {
            facts.push(("known as", with(&external, self.external_ip6.as_ref())));
        } else if let Some(external) = self.external_ip6 {
            facts.push(("known as", external.to_string()));
        }
        facts
    }
}

fn with(v4: &impl ToString, v6: Option<&impl ToString>) -> String {
    let v4 = v4.to_string();
    v6.map_or_else(|| v4.clone(), |v6| format!("{v4}, {}", v6.to_string()))
}

impl From<&CounterRecord> for CountersView {
    fn from(counters: &CounterRecord) -> Self {
        let drops = DropReason::ALL.iter().map(|reason| (reason.name(), counters.drops[*reason as usize]));
        Self {
            out_packets: counters.out_packets,
            out_bytes: counters.out_bytes,
            in_packets: counters.in_packets,
            in_bytes: counters.in_bytes,
            dhcp_replies: counters.dhcp_replies,
            drops: drops.collect(),
        }
    }
}

impl CountersView {
    fn facts(&self) -> Vec<(&'static str, String)> {
        let drops: Vec<String> =
            self.drops.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{count} {name}")).collect();
        let drops = if drops.is_empty() { "none".to_owned() } else { drops.join(", ") };
        vec![
            ("sent", format!("{} packets, {} bytes", self.out_packets, self.out_bytes)),
            ("received", format!("{} packets, {} bytes", self.in_packets, self.in_bytes)),
            ("dhcp", format!("{} answers", self.dhcp_replies)),
            ("dropped", drops),
        ]
    }
}

impl ShowView {
    /// The slot as facts under each other.
    pub(super) fn facts(&self) -> String {
        let mut facts = self.slot.facts();
        facts.extend(self.addresses.facts());
        facts.extend(self.counters.iter().flat_map(CountersView::facts));
        lines(&facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netslot_protocol::State;
    use netslot_protocol::snapshot::Slot;

    fn view(external: bool) -> ShowView {
        let mut config = Config { slot_cidr6: "fd6e::/64".parse().ok(), ..Config::default() };
        config.guest.ip6 = "fd00::2/64".parse().ok();
        config.guest.gateway_ip6 = "fd00::1".parse().ok();
        if external {
            config.external_cidr = "203.0.113.0/24".parse().ok();
        }
        let slot = Slot { slot: 42, generation: 2, state: State::Free, reason: 0, owner: None, binding: None };
        let mut counters = CounterRecord { out_packets: 12, out_bytes: 3_456, dhcp_replies: 2, ..Default::default() };
        counters.drops[DropReason::NotLeased as usize] = 3;
        counters.drops[DropReason::Arp as usize] = 1;
        ShowView {
            slot: SlotView::new(&slot, 0, ""),
            addresses: AddressesView::of(&config, SlotId::new(42).expect("in range")),
            counters: external.then(|| CountersView::from(&counters)),
        }
    }

    #[test]
    fn a_slot_as_facts() {
        assert_eq!(
            view(true).facts(),
            "\
slot        42
state       free
generation  2
guest       172.16.0.2/30, fd00::2/64, 06:00:ac:10:00:02
gateway     172.16.0.1, fd00::1
host end    slot42, index 100042
address     100.64.0.44, fd6e::2c
known as    203.0.113.44
sent        12 packets, 3456 bytes
received    0 packets, 0 bytes
dhcp        2 answers
dropped     1 arp, 3 not-leased
"
        );
        assert!(!view(false).facts().contains("known as"));
    }

    #[test]
    fn a_slot_as_json_begins_as_in_a_list() {
        let json = serde_json::to_string(&view(true)).expect("a value");
        assert!(json.starts_with(r#"{"slot":42,"state":"free","generation":2,"reason":null,"owner":null,"#), "{json}");
        assert!(json.contains(r#""external_ip":"203.0.113.44""#) && json.contains(r#""not-leased":3"#), "{json}");
        let json = serde_json::to_string(&view(false)).expect("a value");
        assert!(json.ends_with(r#""counters":null}"#), "{json}");
    }
}
