//! What may stand in the packets' way on this host: its own firewall, others' programs on the hooks, pins that are not
//! there; looked at, then judged.

use std::path::Path;

use nix::errno::Errno;

use super::network::{self, Network};
use super::{Finding, Level};
use crate::address::HOST_END_PREFIX;
use crate::bpf::attach::{self, EGRESS_BLOCK, INGRESS_BLOCK, UPLINK_PRIORITY};
use crate::bpf::pin_names;
use crate::config::{Config, Forward};
use crate::netlink::forward::{Chain, Rule, Wall, walls};
use crate::netlink::nft::{self, Table, message};
use crate::netlink::tc::Hook;
use crate::netlink::{Protocol, Socket, SocketError};
use crate::slot::IfIndex;
use crate::underlay;

/// What was seen. `None` = could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Chains that block forwarded packets of slots.
    pub walls: Option<Vec<Wall>>,
    /// Whether the older iptables has a filter table, which nf_tables does not show.
    pub legacy: bool,
    /// Programs of others: where, and what.
    pub others: Option<Vec<Other>>,
    /// What of the pool's pins is not there.
    pub unpinned: Option<Vec<&'static str>>,
}

/// Another's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Other {
    pub place: String,
    pub name: String,
    /// Whether it sees packets before ours does, and may keep them from it.
    pub first: bool,
}

/// Looks.
pub(super) fn look(config: &Config, network: Option<&Network>) -> Seen {
    let legacy =
        |file| std::fs::read_to_string(file).is_ok_and(|names: String| names.lines().any(|name| name == "filter"));
    Seen {
        walls: look_at_walls().ok(),
        legacy: legacy("/proc/net/ip_tables_names") || legacy("/proc/net/ip6_tables_names"),
        others: network.and_then(|network| look_at_others(config, network).ok()),
        unpinned: unpinned(&config.bpf_dir),
    }
}

fn look_at_walls() -> Result<Vec<Wall>, SocketError> {
    let mut socket = match Socket::open_to(Protocol::Netfilter) {
        // A kernel without nf_tables.
        Err(error) if error.errno() == Errno::EPROTONOSUPPORT => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut chains = socket.dump(|batch| nft::dump(batch, message::GET_CHAIN), Chain::read)?;
    if chains.is_empty() {
        return Ok(Vec::new());
    }
    // What this pool's own rules drop, they shall drop.
    let own = socket.dump(|batch| nft::dump(batch, message::GET_TABLE), Table::read)?;
    let is_own = |chain: &Chain| {
        let here = |table: &Table| (table.family, &table.name) == (chain.place.family, &chain.place.table);
        own.iter().any(|table| table.mark.is_some() && here(table))
    };
    chains.retain(|chain| !is_own(chain));
    let rules = socket.dump(|batch| nft::dump(batch, message::GET_RULE), |m| Rule::read(m, HOST_END_PREFIX))?;
    Ok(walls(chains, &rules))
}

fn look_at_others(config: &Config, network: &Network) -> Result<Vec<Other>, SocketError> {
    let mut root = Socket::open()?;
    let mut others = Vec::new();
    for (block, words) in [(INGRESS_BLOCK, "the host ends' ingress"), (EGRESS_BLOCK, "the host ends' egress")] {
        let shown = attach::shown(&mut root, Hook::Block(block))?;
        let foreign = shown.into_iter().filter(|shown| !attach::is_ours(shown));
        others.extend(foreign.map(|shown| Other { place: words.into(), name: shown.name, first: false }));
    }
    let Ok(found) = underlay::resolve(config, &network.links, &network.routes) else { return Ok(others) };
    let (name, index) = (found.uplink.to_string(), IfIndex(found.index.0));
    for (hook, words) in [(Hook::Ingress(index), "ingress"), (Hook::Egress(index), "egress")] {
        for shown in attach::shown(&mut root, hook)? {
            if shown.priority != UPLINK_PRIORITY {
                let first = shown.priority < UPLINK_PRIORITY;
                others.push(Other { place: format!("{name} {words}"), name: shown.name, first });
            }
        }
    }
    let tcx = attach::tcx(&name).into_iter();
    others.extend(tcx.map(|(words, program)| Other {
        place: format!("{name} {words} (tcx)"),
        name: program,
        first: true,
    }));
    Ok(others)
}

fn unpinned(dir: &Path) -> Option<Vec<&'static str>> {
    let mut missing = Vec::new();
    for name in pin_names() {
        match dir.join(name).try_exists() {
            Ok(true) => {}
            Ok(false) => missing.push(name),
            Err(_) => return None,
        }
    }
    Some(missing)
}

const HIDDEN: &str = "not looked at: that takes privilege";

/// Judges all of it, in a fixed order.
pub(super) fn judge(config: &Config, seen: &Seen, network: Option<&Network>) -> [Finding; 3] {
    [firewall(config, seen), others(seen), pins(config, seen, network)]
}

fn firewall(config: &Config, seen: &Seen) -> Finding {
    let why = "with forward = \"stack\" an unbound slot's packets pass this host's forward hook, and a chain there that \
               drops what it does not accept keeps them";
    let fine = |value: &str| {
        Finding::fine("host firewall", value, "no chain at the forward hook drops what slots send and get", why)
    };
    if config.forward == Forward::Redirect {
        return fine("not passed: forward = \"redirect\"");
    }
    let Some(walls) = &seen.walls else { return fine(HIDDEN).unless(false, Level::Note, "run this check as root") };
    let Some(first) = walls.first() else {
        let words = "iptables-legacy has a filter table, which is not looked into";
        let mend = "iptables-legacy -S FORWARD, and the same for ip6tables-legacy: see that they accept slot+";
        return if seen.legacy { fine(words).unless(false, Level::Note, mend) } else { fine("none does") };
    };
    let told =
        |wall: &Wall| format!("{} drops by its {}", wall.place, if wall.by_policy { "policy" } else { "last rule" });
    let told: Vec<String> = walls.iter().map(told).collect();
    let place = &first.place;
    let mend = format!(
        "nft insert rule {place} iifname '\"{HOST_END_PREFIX}*\"' accept; nft insert rule {place} oifname \
         '\"{HOST_END_PREFIX}*\"' accept; or the like in your own firewall's words"
    );
    fine(&network::some(&told, "none does")).unless(false, Level::Note, mend)
}

fn others(seen: &Seen) -> Finding {
    let why = "a program that sees packets before ours and lets them pass keeps ours from seeing them: then they leave \
               with the wrong address, or do not arrive";
    let need = "no other programs where ours are, or after them";
    let fine = |value: String| Finding::fine("others' programs", value, need, why);
    let Some(others) = &seen.others else {
        return fine(HIDDEN.into()).unless(false, Level::Note, "run this check as root");
    };
    let told: Vec<String> = others.iter().map(|other| format!("{} on {}", other.name, other.place)).collect();
    let mend = "tc filter show dev DEVICE ingress (and egress), or bpftool net: see that what it lets pass goes on to the \
                next program (TC_ACT_UNSPEC, TCX_NEXT)";
    fine(network::some(&told, "none")).unless(others.iter().all(|other| !other.first), Level::Note, mend)
}

fn pins(config: &Config, seen: &Seen, network: Option<&Network>) -> Finding {
    let why = "programs and leases outlive the daemon by what is pinned; a pool whose pins are gone has no leases that \
               anybody knows of";
    let dir = config.bpf_dir.display();
    let fine = |value: String| Finding::fine("pins", value, format!("all in {dir}, where a pool is"), why);
    let slots = network.map_or(0, |network| network.links.iter().filter(|link| network::is_ours(link)).count());
    match &seen.unpinned {
        None => fine(HIDDEN.into()).unless(false, Level::Note, "run this check as root"),
        Some(missing) if missing.is_empty() => fine("all there".into()),
        Some(_) if slots == 0 => fine("none, and no pool".into()),
        Some(missing) => {
            let value = format!("{slots} slots stand, and {} not in {dir}", missing.join(", "));
            let mend = "look for another bpffs over the one that they are in (finding 'bpffs'); if they are gone, 'netslot \
                        destroy --force' and 'netslot up'";
            fine(value).unless(false, Level::Lack, mend)
        }
    }
}
