//! Keys that are each right and do not go together: a checked configuration → refusals; pure.

use super::refusal::{Origin, Origins, Refusal};
use super::{Config, Empty, Outer, keys, value};
use crate::address::{self, Net};
use crate::limits::{IFINDEX_MAX, MTU_MAX, MTU_MIN_IPV6, VNI_MAX};

/// Everything that does not go together.
pub(super) fn validate(config: &Config, origins: &Origins) -> Vec<Refusal> {
    let mut judge = Judge { config, origins, refusals: Vec::new() };
    judge.numbers();
    judge.slot_ranges();
    judge.guest_ipv4();
    judge.guest_ipv6();
    judge.mtu();
    judge.pool();
    judge.quotas();
    judge.paths();
    judge.refusals
}

struct Judge<'a> {
    config: &'a Config,
    origins: &'a Origins,
    refusals: Vec<Refusal>,
}

impl Judge<'_> {
    /// Refuses at the first of the keys that somebody has set: a default is nobody's mistake.
    fn refuse(&mut self, keys: &[&'static str], problem: String) {
        let set = keys.iter().find(|key| *self.origins.of(key) != Origin::Default);
        let key = set.or(keys.first()).expect("a refusal is about a key");
        self.refusals.push(Refusal { origin: self.origins.of(key).clone(), key: Some((*key).into()), problem });
    }

    /// `slots_max = 1000 (default)`.
    fn said(&self, key: &'static str) -> String {
        let value = (keys::key(key).expect("one of the table's").show)(self.config);
        format!("{key} = {value} ({})", self.origins.of(key))
    }

    fn numbers(&mut self) {
        let c = self.config;
        if c.slots > c.slots_max {
            let problem = format!(
                "{} is less than {}: slots_max is at least slots, and left out it is the same",
                self.said("slots_max"),
                self.said("slots")
            );
            self.refuse(&["slots_max", "slots"], problem);
        }
        let last = u64::from(c.slots_max) - 1;
        if u64::from(c.ifindex_base) + last > u64::from(IFINDEX_MAX) {
            let most = u64::from(IFINDEX_MAX) - last;
            let problem = format!(
                "{} and {} reach past the kernel's largest index, {IFINDEX_MAX}: {most} is the largest base",
                self.said("ifindex_base"),
                self.said("slots_max")
            );
            self.refuse(&["ifindex_base", "slots_max", "slots"], problem);
        }
        if u64::from(c.vni_base) + last > u64::from(VNI_MAX) {
            let most = u64::from(VNI_MAX) - last;
            let problem = format!(
                "{} and {} reach past 24 bits, {VNI_MAX}: {most} is the largest base",
                self.said("vni_base"),
                self.said("slots_max")
            );
            self.refuse(&["vni_base", "slots_max", "slots"], problem);
        }
    }

    fn slot_ranges(&mut self) {
        let c = self.config;
        let numbered = address::slots_in(c.slot_cidr);
        if numbered < u64::from(c.slots_max) {
            let fits = (0..=30).rev().map(|prefix| Net { prefix, ..c.slot_cidr });
            let fits = fits.map(|net| Net { addr: net.network(), ..net });
            let fit = fits.into_iter().find(|net| address::slots_in(*net) >= u64::from(c.slots_max));
            let problem = format!(
                "{} numbers {numbered} slots, too few for {}: {} would do",
                c.slot_cidr,
                self.said("slots_max"),
                fit.expect("65,536 fit a /0")
            );
            self.refuse(&["slot_cidr", "slots_max", "slots"], problem);
        }
        self.external_ranges();
        let Some(range6) = c.slot_cidr6 else { return };
        if address::slots_in6(range6) < u128::from(c.slots_max) {
            let fits = (0..=126).rev().map(|prefix| Net { prefix, ..range6 });
            let fits = fits.map(|net| Net { addr: net.network(), ..net });
            let fit = fits.into_iter().find(|net| address::slots_in6(*net) >= u128::from(c.slots_max));
            let problem = format!(
                "{range6} numbers {} slots, too few for {}: {} would do",
                address::slots_in6(range6),
                self.said("slots_max"),
                fit.expect("65,536 fit a /0")
            );
            self.refuse(&["slot_cidr6", "slots_max", "slots"], problem);
        }
    }

    /// As many addresses as slots, and none of them a slot's own: the uplink's programs tell the two apart.
    fn external_ranges(&mut self) {
        let c = self.config;
        let few = c.external_cidr.filter(|range| address::slots_in(*range) < u64::from(c.slots_max));
        let few6 = c.external_cidr6.filter(|range| address::slots_in6(*range) < u128::from(c.slots_max));
        let shared = c.external_cidr.filter(|range| range.overlaps(c.slot_cidr));
        let shared6 = c.external_cidr6.filter(|range| c.slot_cidr6.is_some_and(|own| own.overlaps(*range)));
        let alone = c.external_cidr6.filter(|_| c.slot_cidr6.is_none());
        for (key, few) in
            [("external_cidr", few.map(|n| n.to_string())), ("external_cidr6", few6.map(|n| n.to_string()))]
        {
            if let Some(range) = few {
                let problem = format!("{range} has too few addresses for {}", self.said("slots_max"));
                self.refuse(&[key, "slots_max", "slots"], problem);
            }
        }
        for (key, own, shared) in [
            ("external_cidr", "slot_cidr", shared.map(|n| n.to_string())),
            ("external_cidr6", "slot_cidr6", shared6.map(|n| n.to_string())),
        ] {
            if let Some(range) = shared {
                let problem = format!("{range} overlaps {}: an address has one meaning", self.said(own));
                self.refuse(&[key, own], problem);
            }
        }
        if alone.is_some() {
            let problem = "the slots have no IPv6 addresses to be known by others: set slot_cidr6, guest.ip6 and \
                           guest.gateway_ip6, or leave it out";
            self.refuse(&["external_cidr6"], problem.into());
        }
    }

    fn guest_ipv4(&mut self) {
        let guest = &self.config.guest;
        let network = Net { addr: guest.ip.network(), ..guest.ip };
        if !guest.ip.contains(guest.gateway_ip) {
            let problem = format!("{} is outside the guest's network {network}", guest.gateway_ip);
            self.refuse(&["guest.gateway_ip", "guest.ip"], problem);
        } else if guest.gateway_ip == guest.ip.addr {
            let problem = format!("{} is both the guest's address and the gateway's", guest.gateway_ip);
            self.refuse(&["guest.gateway_ip", "guest.ip"], problem);
        } else if let Err(edge) = value::guest_edge(guest.gateway_ip, guest.ip) {
            self.refuse(&["guest.gateway_ip", "guest.ip"], edge.to_string());
        }
        if guest.mac == guest.gateway_mac {
            let problem = format!("{} is both the guest's MAC and the gateway's", guest.mac);
            self.refuse(&["guest.gateway_mac", "guest.mac"], problem);
        }
        if network.overlaps(self.config.slot_cidr) {
            let problem = format!(
                "the slots' {} overlaps the guest's network {network}: the same address would be inside and outside; \
                 take another range for one of them",
                self.said("slot_cidr")
            );
            self.refuse(&["slot_cidr", "guest.ip"], problem);
        }
    }

    fn guest_ipv6(&mut self) {
        const KEYS: [&str; 3] = ["guest.ip6", "guest.gateway_ip6", "slot_cidr6"];
        let guest = &self.config.guest;
        let (ip6, gateway, range) = match (guest.ip6, guest.gateway_ip6, self.config.slot_cidr6) {
            (None, None, None) => return,
            (Some(ip6), Some(gateway), Some(range)) => (ip6, gateway, range),
            _ => {
                let said = KEYS.map(|key| self.said(key)).join(", ");
                let problem = format!("IPv6 takes all three or none of {}; there is {said}", KEYS.join(", "));
                self.refuse(&KEYS, problem);
                return;
            }
        };
        let network = Net { addr: ip6.network(), ..ip6 };
        if !ip6.contains(gateway) {
            self.refuse(&KEYS[1..2], format!("{gateway} is outside the guest's network {network}"));
        } else if gateway == ip6.addr {
            self.refuse(&KEYS[1..2], format!("{gateway} is both the guest's address and the gateway's"));
        } else if let Err(edge) = value::guest_edge6(gateway, ip6) {
            self.refuse(&KEYS[1..2], edge.to_string());
        }
        if network.overlaps(range) {
            let problem = format!(
                "the slots' {} overlaps the guest's network {network}: the same address would be inside and outside; \
                 take another range for one of them",
                self.said("slot_cidr6")
            );
            self.refuse(&["slot_cidr6", "guest.ip6"], problem);
        }
    }

    fn mtu(&mut self) {
        let Some(mtu) = self.config.mtu else { return };
        if mtu < MTU_MIN_IPV6 && self.config.guest.ip6.is_some() {
            let problem = format!("{mtu} carries no IPv6, and there is {}: at least 1280", self.said("guest.ip6"));
            self.refuse(&["mtu"], problem);
        }
        // Outer lengths are 16 bits: a packet grown by the tunnel must still be one.
        let most = MTU_MAX.min(65_535 - self.config.tunnel.overhead(Outer::V6));
        if mtu > most {
            let problem = format!("{mtu} leaves no room for {}: at most {most}", self.said("tunnel"));
            self.refuse(&["mtu"], problem);
        }
    }

    fn pool(&mut self) {
        let c = self.config;
        if let Some(ready_after) = c.ready_after.filter(|n| *n > c.slots) {
            let problem = format!("{ready_after} slots will never be there: {}", self.said("slots"));
            self.refuse(&["ready_after", "slots"], problem);
        }
        if c.empty == Empty::Create && c.slots_max == c.slots {
            let problem = format!(
                "\"create\" has nothing to create: {} is no more than {}; raise slots_max, or take \"wait\"",
                self.said("slots_max"),
                self.said("slots")
            );
            self.refuse(&["empty"], problem);
        }
    }

    fn quotas(&mut self) {
        let (quotas, slots) = (&self.config.quotas, self.config.slots);
        if self.config.empty != Empty::Fail {
            for (key, n) in
                [("quotas.waiters_per_uid", quotas.waiters_per_uid), ("quotas.wait_ms_max", quotas.wait_ms_max)]
            {
                if n == 0 {
                    let problem =
                        format!("0 lets nobody wait, and there is {}; for that, empty = \"fail\"", self.said("empty"));
                    self.refuse(&[key], problem);
                }
            }
        }
        if quotas.reserve > 0 && quotas.reserve_uids.is_empty() {
            let problem = format!("{} slots are kept back for nobody: name the users in reserve_uids", quotas.reserve);
            self.refuse(&["quotas.reserve", "quotas.reserve_uids"], problem);
        }
        if quotas.reserve >= slots {
            let problem = format!(
                "{} slots kept back of {}: nobody else could ever have one",
                quotas.reserve,
                self.said("slots")
            );
            self.refuse(&["quotas.reserve", "slots"], problem);
        }
    }

    fn paths(&mut self) {
        let c = self.config;
        let all =
            [("run_dir", &c.run_dir), ("bpf_dir", &c.bpf_dir), ("netns_dir", &c.netns_dir), ("socket", &c.socket)];
        for (i, (key, path)) in all.iter().enumerate() {
            for (other, _) in all[..i].iter().filter(|(_, before)| before == path) {
                let problem = format!("{} and {} are one path; each has its own", self.said(key), self.said(other));
                self.refuse(&[key, other], problem);
            }
        }
    }
}
