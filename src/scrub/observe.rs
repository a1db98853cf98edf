//! Looks at a slot from inside: everything that its fingerprint is made of, and who is still in it; changes nothing.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::ScrubError;
use super::mend::{FRAGMENTED, FRAGMENTED6, TRACKED, WAITING};
use crate::address;
use crate::execute;
use crate::fingerprint::{Class, Fact, Fingerprint, HEADER, fact, hold_settings_together, told};
use crate::limits::PROCFS_SLOTS;
use crate::netlink::read::text_of;
use crate::netlink::tc::{self, Hook};
use crate::netlink::{Batch, Socket, SocketError, route};
use crate::plan::SlotSpec;
use crate::slot::{IfIndex, SlotId};
use crate::sys::bpf::{self, Place};
use crate::sys::netns;
use crate::sys::procfs::Procfs;

/// Sysctls that are the slot's alone and begin with the kernel's own value; those that a slot is given are looked at
/// besides, and those of single devices stand in the devices' own messages. Not among them: what a namespace takes from
/// the host's when it is made, which is no difference that anybody in it has made.
const SYSCTLS: [&str; 13] = [
    "ipv4/ip_default_ttl",
    "ipv4/ip_nonlocal_bind",
    "ipv4/ip_dynaddr",
    "ipv4/ip_early_demux",
    "ipv4/ip_local_port_range",
    "ipv4/ip_local_reserved_ports",
    "ipv4/ip_unprivileged_port_start",
    "ipv4/icmp_echo_ignore_all",
    "ipv4/icmp_echo_ignore_broadcasts",
    "ipv4/icmp_errors_use_inbound_ifaddr",
    "ipv4/fwmark_reflect",
    "ipv6/fwmark_reflect",
    "ipv6/bindv6only",
];

/// The tables that iptables of old has made in a namespace, by the file that lists them: none of them can be unmade.
const TABLES: [(&str, &str); 3] = [
    ("iptables", "thread-self/net/ip_tables_names"),
    ("ip6tables", "thread-self/net/ip6_tables_names"),
    ("arptables", "thread-self/net/arp_tables_names"),
];

/// Connections that the namespace tracks, below `sys/net`.
const CONNECTIONS: &str = "netfilter/nf_conntrack_count";

/// Counts of sockets, connections and fragments, of which we take those that are the namespace's own.
const SOCKSTAT: &str = "thread-self/net/sockstat";
/// What IPv6 has of them.
const SOCKSTAT6: &str = "thread-self/net/sockstat6";

/// Room for what a file of /proc tells of a namespace: the longest, a list of reserved ports, has a bound of its own
/// nowhere, and differs in its first bytes already where it should be empty.
const PROC_BYTES: usize = 4_096;

/// A kind of thing, and the question for all of its kind.
type Ask = (Class, fn(&mut Batch));

/// One thread's eyes, closed until it enters a slot.
#[derive(Debug, Default)]
pub struct Eyes {
    procfs: Option<Procfs>,
    slots: u32,
    buffer: Vec<u8>,
}

impl Eyes {
    /// Steps into the slot, where the calling thread is left, and counts the sockets in it, of any family and anybody's. One
    /// that was closed counts until a grace period is over: so none is opened here by who comes to see whether they have
    /// gone.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn arrive(&mut self, slot: SlotId, namespace: BorrowedFd<'_>) -> Result<u32, ScrubError> {
        netns::enter(namespace).map_err(|errno| ScrubError::Enter(slot, errno))?;
        if self.slots == PROCFS_SLOTS {
            (self.procfs, self.slots) = (None, 0);
        }
        self.slots += 1;
        self.buffer.resize(PROC_BYTES, 0);
        let failed = |call: &str| {
            let call = call.to_owned();
            move |error| ScrubError::Proc(slot, call, Arc::new(error))
        };
        let procfs = procfs(&mut self.procfs).map_err(failed("mount of a proc file system"))?;
        sockets(procfs, &mut self.buffer).map_err(failed("read of sockstat"))
    }

    /// Looks around in the slot that the calling thread stands in.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn open(&mut self, spec: &SlotSpec) -> Result<Inside<'_>, ScrubError> {
        let slot = spec.slot;
        let mounted = procfs(&mut self.procfs);
        let procfs =
            mounted.map_err(|error| ScrubError::Proc(slot, "mount of a proc file system".into(), Arc::new(error)))?;
        let socket = Socket::open().map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        Ok(Inside { slot, ipv6: spec.v6.is_some(), socket, procfs, buffer: &mut self.buffer })
    }
}

fn procfs(procfs: &mut Option<Procfs>) -> std::io::Result<&Procfs> {
    match procfs {
        Some(procfs) => Ok(procfs),
        none => Ok(none.insert(Procfs::new()?)),
    }
}

/// One slot, looked at from inside.
#[derive(Debug)]
pub struct Inside<'a> {
    pub slot: SlotId,
    ipv6: bool,
    pub socket: Socket,
    pub procfs: &'a Procfs,
    buffer: &'a mut [u8],
}

impl Inside<'_> {
    /// Everything but sockets and rules; of the neighbours those that are known already, else all that there are: for
    /// these the kernel walks every namespace's (neigh_dump_table, net/core/neighbour.c), at 140 ns each by perf.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn look(&mut self, neighbours: Option<Vec<Fact>>) -> Result<Fingerprint, ScrubError> {
        let slot = self.slot;
        let mut facts = self.dumps(neighbours).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        hold_settings_together(&mut facts, address::inside::UP_INDEX);
        self.programs(&mut facts)?;
        self.proc(&mut facts)?;
        Ok(Fingerprint::of(facts))
    }

    fn dumps(&mut self, neighbours: Option<Vec<Fact>>) -> Result<Vec<Fact>, SocketError> {
        let mut facts = Vec::with_capacity(64);
        match neighbours {
            Some(known) => facts.extend(known),
            None => facts.extend(self.socket.dump(route::dump_neighbours, |m| fact(Class::Neighbour, m))?),
        }
        let asked: [Ask; 9] = [
            (Class::Link, route::dump_links),
            (Class::Address, route::dump_addresses),
            (Class::Route, route::dump_routes),
            (Class::Exception, route::dump_exceptions),
            (Class::Rule, route::dump_rules),
            (Class::NextHop, route::dump_next_hops),
            (Class::Neighbour, route::dump_proxied),
            (Class::Forwarding, route::dump_forwarding),
            (Class::Qdisc, tc::dump_qdiscs),
        ];
        for (class, ask) in asked {
            facts.extend(self.socket.dump(ask, |message| fact(class, message))?);
        }
        // Only clsact and ingress hold filters that the dump of qdiscs does not show as strange already; of an ingress one
        // both hooks are the same list (ingress_tcf_block, net/sched/sch_ingress.c).
        let hooks = |fact: &Fact| {
            let kind = fact.value([1, 0, 0, 0]).map(text_of)?;
            let device = fact.number([HEADER, 4, 0, 0]).map(IfIndex)?;
            match &*kind {
                "clsact" => Some(vec![Hook::Ingress(device), Hook::Egress(device)]),
                "ingress" => Some(vec![Hook::Ingress(device)]),
                _ => None,
            }
        };
        let hooked = facts.iter().filter(|fact| fact.class == Class::Qdisc).filter_map(hooks);
        for hook in hooked.flatten().collect::<Vec<_>>() {
            facts.extend(self.socket.dump(|batch| tc::dump_filters(batch, hook), |m| fact(Class::Filter, m))?);
        }
        Ok(facts)
    }

    fn programs(&self, facts: &mut Vec<Fact>) -> Result<(), ScrubError> {
        let netns = self.socket.netns().map_err(|error| ScrubError::Socket(self.slot, Arc::new(error)))?;
        let index = |fact: &Fact| fact.number([HEADER, 4, 0, 0]).filter(|_| fact.class == Class::Link);
        let devices: Vec<u32> = facts.iter().filter_map(index).collect();
        let on_device = |index| [("tcx ingress", Place::TcxIngress(index)), ("tcx egress", Place::TcxEgress(index))];
        let of_netns =
            [("flow dissector", Place::FlowDissector(&netns)), ("socket lookup", Place::SocketLookup(&netns))];
        for (name, place) in devices.into_iter().flat_map(on_device).chain(of_netns) {
            let programs = bpf::programs(place).map_err(|errno| ScrubError::Programs(self.slot, errno))?;
            let device = match place {
                Place::TcxIngress(index) | Place::TcxEgress(index) => format!(" of device {index}"),
                Place::FlowDissector(_) | Place::SocketLookup(_) => String::new(),
            };
            let told = |id: u32| told(Class::Program, &format!("{id} at {name}{device}"), "runs");
            facts.extend(programs.into_iter().map(told));
        }
        Ok(())
    }

    fn proc(&mut self, facts: &mut Vec<Fact>) -> Result<(), ScrubError> {
        for name in SYSCTLS.into_iter().chain(execute::sysctls()) {
            if let Some(value) = self.read(&format!("sys/net/{name}"))? {
                facts.push(told(Class::Sysctl, &format!("net/{name}"), value));
            }
        }
        for (name, path) in TABLES {
            if let Some(tables) = self.read(path)?.filter(|tables| !tables.is_empty()) {
                let tables = tables.replace('\n', " ");
                facts.push(told(Class::Tables, name, &tables));
            }
        }
        facts.extend(self.connections()?.filter(|n| n != "0").map(|n| told(Class::Count, TRACKED, &n)));
        // Read again, though who came has read it for the sockets: whoever was in the slot then may have left this since.
        if let Some(text) = self.read(SOCKSTAT)? {
            let counts = [(WAITING, count(text, "TCP:", "tw")), (FRAGMENTED, count(text, "FRAG:", "inuse"))];
            facts.extend(counts.into_iter().filter_map(some));
        }
        if self.ipv6
            && let Some(text) = self.read(SOCKSTAT6)?
        {
            facts.extend(some((FRAGMENTED6, count(text, "FRAG6:", "inuse"))));
        }
        Ok(())
    }

    /// Connections that are tracked, where any can be.
    ///
    /// # Errors
    /// [`ScrubError::Proc`].
    pub fn connections(&mut self) -> Result<Option<String>, ScrubError> {
        Ok(self.read(&format!("sys/net/{CONNECTIONS}"))?.map(str::to_owned))
    }

    fn read(&mut self, path: &str) -> Result<Option<&str>, ScrubError> {
        match self.procfs.read(path, self.buffer) {
            Ok(text) => Ok(Some(text.trim())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None), // the kernel lacks it
            Err(error) => Err(ScrubError::Proc(self.slot, format!("read of /proc/{path}"), Arc::new(error))),
        }
    }
}

/// The number in `sockets: used`, which is of the namespace (socket_seq_show, net/socket.c, since 4.16).
fn sockets(procfs: &Procfs, buffer: &mut [u8]) -> std::io::Result<u32> {
    let text = procfs.read(SOCKSTAT, buffer)?;
    let line = text.lines().next().unwrap_or_default();
    count(text, "sockets:", "used").ok_or_else(|| std::io::Error::other(format!("'{line}' tells no number of sockets")))
}

/// The number behind that word of that line of sockstat. `tw` and fragments are of the namespace as `used` is, `orphan`,
/// `alloc` and `mem` are not (sockstat_seq_show, net/ipv4/proc.c).
fn count(text: &str, line: &str, word: &str) -> Option<u32> {
    let mut words = text.lines().find_map(|text| text.strip_prefix(line))?.split_ascii_whitespace();
    words.find(|found| *found == word)?;
    words.next()?.parse().ok()
}

fn some((name, count): (&str, Option<u32>)) -> Option<Fact> {
    count.filter(|count| *count > 0).map(|count| told(Class::Count, name, &count.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_the_number_behind_its_word_in_its_line() {
        let text =
            "sockets: used 3\nTCP: inuse 1 orphan 0 tw 7 alloc 9 mem 5\nUDP: inuse 2 mem 0\nFRAG: inuse 4 memory 8\n";
        assert_eq!(count(text, "sockets:", "used"), Some(3));
        assert_eq!(count(text, "TCP:", "tw"), Some(7));
        assert_eq!(count(text, "FRAG:", "inuse"), Some(4));
        assert_eq!((count(text, "FRAG6:", "inuse"), count(text, "UDP:", "tw")), (None, None));
    }
}
