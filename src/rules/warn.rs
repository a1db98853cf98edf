//! What rules cost that does not show in them: memory per CPU and conntrack, times the slots; pure.

use super::image::{Image, Purpose};
use super::normal::Ruleset;
use super::object::Object;

/// Bytes of a counter on each CPU (`struct nft_counter`, net/netfilter/nft_counter.c).
const COUNTER_BYTES: u64 = 16;
/// Plain counters in a slot from which on their cost is told: a few to look at are no waste.
const COUNTERS_UNTOLD: u64 = 4;

/// What is worth telling of rules that so many slots on so many CPUs get.
#[must_use]
pub fn warnings(image: &Image, slots: u32, cpus: u32) -> Vec<String> {
    let mut told = Vec::new();
    let counters = counters(&image.rules);
    let in_slots = image.purpose == Purpose::Slot;
    if in_slots && counters > COUNTERS_UNTOLD {
        let megabytes = counters * COUNTER_BYTES * u64::from(slots) * u64::from(cpus) / 1_000_000;
        told.push(format!(
            "the rules hold {counters} counters: memory of its own on each of {cpus} CPUs for each in {slots} slots \
             ({megabytes} MB), allocated one by one in every slot; count at the rules where it matters"
        ));
    }
    let tracking = tracking(image);
    if let Some(by) = tracking.first() {
        let whose = if in_slots { "every slot's traffic" } else { "the host's traffic, and that of all slots," };
        told.push(format!(
            "the rules use conntrack ({by}): {whose} is tracked from the first packet, and each connection takes an \
             entry of nf_conntrack_max; rules without it, or 'notrack' in a raw chain, cost nothing per connection"
        ));
    }
    told
}

/// Expressions and objects that allocate on each CPU, wherever they stand.
fn counters(rules: &Ruleset) -> u64 {
    rules.objects().iter().map(Object::counters).sum()
}

/// What of the rules makes the kernel track connections.
fn tracking(image: &Image) -> Vec<&str> {
    const TRACKING: [&str; 12] = [
        "ct",
        "nat",
        "masq",
        "redir",
        "synproxy",
        "connlimit",
        "chain type nat",
        "iptables match conntrack",
        "iptables match state",
        "iptables match connlimit",
        "iptables match connmark",
        "iptables match connbytes",
    ];
    image.features.iter().map(String::as_str).filter(|feature| TRACKING.contains(feature)).collect()
}
