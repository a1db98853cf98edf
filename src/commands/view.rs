//! What people and scripts see of leases, slots and the daemon: tables, facts and JSON; pure, prints nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netslot_protocol::client::Lease;
use netslot_protocol::reply;
use netslot_protocol::snapshot::{Owner, Slot};
use netslot_protocol::{Binding, State};
use serde::Serialize;

use super::output::{Column, Table, visible};
use crate::address;
use crate::ledger::Reason;
use crate::slot::{Mac, SlotId};

/// A lease as JSON, and as `exec` puts it into the environment.
#[derive(Debug, Serialize)]
pub(super) struct LeaseView {
    pub slot: u32,
    pub generation: u64,
    /// For `ip netns exec`.
    pub netns: String,
    /// For `nsenter --net=` and the VMM's jailer.
    pub netns_path: String,
    pub tap: String,
    pub mtu: u32,
    pub guest_ip: Ipv4Addr,
    pub guest_prefix: u8,
    pub guest_mac: String,
    pub gateway_ip: Ipv4Addr,
    pub gateway_mac: String,
    pub guest_ip6: Option<Ipv6Addr>,
    pub guest_prefix6: Option<u8>,
    pub gateway_ip6: Option<Ipv6Addr>,
    pub slot_ip: Ipv4Addr,
    pub slot_ip6: Option<Ipv6Addr>,
    pub host_end: String,
    pub host_ifindex: u32,
}

impl From<&Lease> for LeaseView {
    fn from(lease: &Lease) -> Self {
        let guest = &lease.guest;
        let name = lease.netns_path.file_name().unwrap_or_default();
        Self {
            slot: lease.id.slot,
            generation: lease.id.generation,
            netns: name.to_string_lossy().into_owned(),
            netns_path: lease.netns_path.to_string_lossy().into_owned(),
            tap: guest.tap.to_string(),
            mtu: guest.mtu,
            guest_ip: guest.ip.addr.into(),
            guest_prefix: guest.ip.prefix,
            guest_mac: Mac(guest.mac).to_string(),
            gateway_ip: guest.gateway_ip.into(),
            gateway_mac: Mac(guest.gateway_mac).to_string(),
            guest_ip6: guest.ip6.map(|ip6| ip6.ip.addr.into()),
            guest_prefix6: guest.ip6.map(|ip6| ip6.ip.prefix),
            gateway_ip6: guest.ip6.map(|ip6| ip6.gateway_ip.into()),
            slot_ip: lease.slot_ip,
            slot_ip6: lease.slot_ip6,
            host_end: SlotId::new(lease.id.slot).map(|slot| address::host_end(slot).to_string()).unwrap_or_default(),
            host_ifindex: lease.host_ifindex,
        }
    }
}

impl LeaseView {
    /// The environment of a program in the slot; what the slot does not have is not there.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let here = [
            ("NETSLOT_SLOT", self.slot.to_string()),
            ("NETSLOT_GENERATION", self.generation.to_string()),
            ("NETSLOT_NETNS", self.netns.clone()),
            ("NETSLOT_NETNS_PATH", self.netns_path.clone()),
            ("NETSLOT_TAP", self.tap.clone()),
            ("NETSLOT_MTU", self.mtu.to_string()),
            ("NETSLOT_GUEST_IP", self.guest_ip.to_string()),
            ("NETSLOT_GUEST_PREFIX", self.guest_prefix.to_string()),
            ("NETSLOT_GUEST_MAC", self.guest_mac.clone()),
            ("NETSLOT_GATEWAY_IP", self.gateway_ip.to_string()),
            ("NETSLOT_GATEWAY_MAC", self.gateway_mac.clone()),
            ("NETSLOT_SLOT_IP", self.slot_ip.to_string()),
            ("NETSLOT_HOST_END", self.host_end.clone()),
            ("NETSLOT_HOST_IFINDEX", self.host_ifindex.to_string()),
        ];
        let maybe = [
            ("NETSLOT_GUEST_IP6", self.guest_ip6.map(|ip| ip.to_string())),
            ("NETSLOT_GUEST_PREFIX6", self.guest_prefix6.map(|prefix| prefix.to_string())),
            ("NETSLOT_GATEWAY_IP6", self.gateway_ip6.map(|ip| ip.to_string())),
            ("NETSLOT_SLOT_IP6", self.slot_ip6.map(|ip| ip.to_string())),
        ];
        here.into_iter().chain(maybe.into_iter().filter_map(|(name, value)| Some((name, value?)))).collect()
    }
}

/// Leases under each other.
pub(super) fn lease_table(leases: &[LeaseView]) -> Table {
    let mut table = Table::new(&[
        Column::Right("SLOT"),
        Column::Right("GENERATION"),
        Column::Left("NETNS"),
        Column::Left("TAP"),
        Column::Right("MTU"),
        Column::Left("GUEST"),
        Column::Left("GUEST MAC"),
        Column::Left("GATEWAY"),
        Column::Left("SLOT IP"),
    ]);
    for lease in leases {
        table.row([
            lease.slot.to_string(),
            lease.generation.to_string(),
            lease.netns.clone(),
            lease.tap.clone(),
            lease.mtu.to_string(),
            format!("{}/{}", lease.guest_ip, lease.guest_prefix),
            lease.guest_mac.clone(),
            lease.gateway_ip.to_string(),
            lease.slot_ip.to_string(),
        ]);
    }
    table
}

/// A slot as JSON.
#[derive(Debug, Serialize)]
pub(super) struct SlotView {
    slot: u32,
    state: &'static str,
    generation: u64,
    /// Why it is quarantined.
    reason: Option<String>,
    owner: Option<OwnerView>,
    binding: Option<BindingView>,
}

#[derive(Debug, Serialize)]
struct OwnerView {
    uid: u32,
    gid: u32,
    pid: u32,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    since_ns: u64,
    leased_ms: u64,
    policy: &'static str,
    tag: String,
}

#[derive(Debug, Serialize)]
struct BindingView {
    vni: u32,
    remote: IpAddr,
    tenant_ip: Option<Ipv4Addr>,
    tenant_ip6: Option<Ipv6Addr>,
}

impl OwnerView {
    fn of(owner: &Owner, now_ns: u64) -> Self {
        Self {
            uid: owner.uid,
            gid: owner.gid,
            pid: owner.pid,
            since_ns: owner.since_ns,
            leased_ms: now_ns.saturating_sub(owner.since_ns) / 1_000_000,
            policy: owner.policy.name(),
            tag: owner.tag.to_string(),
        }
    }
}

impl From<Binding> for BindingView {
    fn from(binding: Binding) -> Self {
        Self {
            vni: binding.vni,
            remote: binding.remote.into(),
            tenant_ip: binding.tenant_v4.map(Into::into),
            tenant_ip6: binding.tenant_v6.map(Into::into),
        }
    }
}

impl BindingView {
    fn tenant(&self) -> String {
        let v4 = self.tenant_ip.map(|ip| ip.to_string());
        let v6 = self.tenant_ip6.map(|ip| ip.to_string());
        v4.into_iter().chain(v6).collect::<Vec<_>>().join(", ")
    }
}

impl SlotView {
    /// The slot at that `CLOCK_BOOTTIME`; `detail` is what the daemon says of a quarantine, empty where it was not
    /// asked.
    pub(super) fn new(slot: &Slot, now_ns: u64, detail: &str) -> Self {
        let reason = (slot.state == State::Quarantined).then(|| {
            let number = || Reason::from_byte(slot.reason).map_or("for no known reason".into(), |r| r.to_string());
            if detail.is_empty() { number() } else { detail.to_owned() }
        });
        Self {
            slot: slot.slot,
            state: slot.state.name(),
            generation: slot.generation,
            reason,
            owner: slot.owner.as_ref().map(|owner| OwnerView::of(owner, now_ns)),
            binding: slot.binding.map(Into::into),
        }
    }

    /// What is known of the slot.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("slot", self.slot.to_string()),
            ("state", self.state.to_owned()),
            ("generation", self.generation.to_string()),
        ];
        if let Some(reason) = &self.reason {
            facts.push(("because", reason.clone()));
        }
        if let Some(owner) = &self.owner {
            facts.push(("owner", format!("uid {}, gid {}, pid {}", owner.uid, owner.gid, owner.pid)));
            facts.push(("leased for", span(Duration::from_millis(owner.leased_ms))));
            facts.push(("release", owner.policy.to_owned()));
            facts.push(("tag", visible(&owner.tag)));
        }
        if let Some(binding) = &self.binding {
            let to = format!("VNI {} at {}, guest is {}", binding.vni, binding.remote, binding.tenant());
            facts.push(("bound to", to));
        }
        facts
    }
}

/// Slots under each other.
pub(super) fn slot_table(slots: &[SlotView]) -> Table {
    let mut table = Table::new(&[
        Column::Right("SLOT"),
        Column::Left("STATE"),
        Column::Right("GENERATION"),
        Column::Right("UID"),
        Column::Right("PID"),
        Column::Right("FOR"),
        Column::Left("RELEASE"),
        Column::Left("TAG"),
        Column::Left("BOUND TO"),
    ]);
    for slot in slots {
        let owner = slot.owner.as_ref();
        let of_owner = |show: fn(&OwnerView) -> String| owner.map(show).unwrap_or_default();
        let bound = slot.binding.as_ref().map(|b| format!("VNI {} at {}: {}", b.vni, b.remote, b.tenant()));
        table.row([
            slot.slot.to_string(),
            slot.state.to_owned(),
            slot.generation.to_string(),
            of_owner(|owner| owner.uid.to_string()),
            of_owner(|owner| owner.pid.to_string()),
            of_owner(|owner| span(Duration::from_millis(owner.leased_ms))),
            of_owner(|owner| owner.policy.to_owned()),
            of_owner(|owner| owner.tag.clone()),
            bound.or_else(|| slot.reason.clone()).unwrap_or_default(),
        ]);
    }
    table
}

/// The daemon's counts as JSON.
#[derive(Debug, Serialize)]
pub(super) struct StatusView {
    server: String,
    pid: u32,
    uptime_ms: u64,
    slots: u32,
    building: u32,
    free: u32,
    leased: u32,
    scrubbing: u32,
    quarantined: u32,
    rebuilding: u32,
    waiters: u32,
    connections: u32,
    leases_total: u64,
    releases_total: u64,
    empty_total: u64,
}

impl From<&reply::Status> for StatusView {
    fn from(status: &reply::Status) -> Self {
        Self {
            server: status.server.to_string(),
            pid: status.pid,
            uptime_ms: status.uptime_ms,
            slots: status.slots,
            building: status.count(State::Building),
            free: status.count(State::Free),
            leased: status.count(State::Leased),
            scrubbing: status.count(State::Scrubbing),
            quarantined: status.count(State::Quarantined),
            rebuilding: status.count(State::Rebuilding),
            waiters: status.waiters,
            connections: status.connections,
            leases_total: status.leases_total,
            releases_total: status.releases_total,
            empty_total: status.empty_total,
        }
    }
}

impl StatusView {
    /// The counts as facts under each other; states that no slot is in are left out, but for free and leased.
    pub(super) fn facts(&self) -> String {
        let states = [
            ("free", self.free, true),
            ("leased", self.leased, true),
            ("scrubbing", self.scrubbing, false),
            ("building", self.building, false),
            ("rebuilding", self.rebuilding, false),
            ("quarantined", self.quarantined, false),
        ];
        let shown = states.iter().filter(|(_, count, always)| *always || *count > 0);
        let shown: Vec<String> = shown.map(|(state, count, _)| format!("{count} {state}")).collect();
        let up = span(Duration::from_millis(self.uptime_ms));
        let totals = [
            format!("{} given", self.leases_total),
            format!("{} ended", self.releases_total),
            format!("{} refused for want of a slot", self.empty_total),
        ];
        lines(&[
            ("daemon", format!("{}, pid {}, up {up}", visible(&self.server), self.pid)),
            ("slots", format!("{}: {}", self.slots, shown.join(", "))),
            ("leases", totals.join(", ")),
            ("waiting", self.waiters.to_string()),
            ("connections", self.connections.to_string()),
        ])
    }
}

/// One fact a line, the values under each other.
/// Facts under each other.
pub(super) fn lines(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:<width$}  {value}").trim_end().to_owned() + "\n").collect()
}

/// A length of time in its two largest units: `3d04h`, `2h05m`, `1m07s`, `12s`; below a second, `0s`.
fn span(time: Duration) -> String {
    let s = time.as_secs();
    let (m, h, d) = (s / 60, s / 3_600, s / 86_400);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m{:02}s", s % 60),
        (0, _, _) => format!("{h}h{:02}m", m % 60),
        (_, _, _) => format!("{d}d{:02}h", h % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netslot_protocol::types::{Guest6, Net4, Net6};
    use netslot_protocol::{Guest, Ip, LeaseId, Policy, Text};

    fn lease(ip6: bool) -> Lease {
        let octets = |ip: &str| ip.parse::<Ipv6Addr>().expect("an address").octets();
        let guest6 = Guest6 { ip: Net6 { addr: octets("fd00::2"), prefix: 64 }, gateway_ip: octets("fd00::1") };
        let guest = Guest {
            tap: Text::cut("tap0"),
            mac: [6, 0, 0xac, 0x10, 0, 2],
            ip: Net4 { addr: [172, 16, 0, 2], prefix: 30 },
            gateway_ip: [172, 16, 0, 1],
            gateway_mac: [6, 0, 0xac, 0x10, 0, 1],
            ip6: ip6.then_some(guest6),
            mtu: 1450,
        };
        Lease {
            id: LeaseId { slot: 42, generation: 7 },
            netns_path: "/run/netns/slot-0042".into(),
            guest,
            host_ifindex: 100_042,
            slot_ip: [100, 64, 0, 44].into(),
            slot_ip6: ip6.then(|| octets("fd01::2c").into()),
            netns: None,
            tap: None,
        }
    }

    #[test]
    fn a_lease_as_json() {
        let json = |ip6| serde_json::to_string(&LeaseView::from(&lease(ip6))).expect("a value");
        assert_eq!(
            json(false),
            concat!(
                r#"{"slot":42,"generation":7,"netns":"slot-0042","netns_path":"/run/netns/slot-0042","tap":"tap0","#,
                r#""mtu":1450,"guest_ip":"172.16.0.2","guest_prefix":30,"guest_mac":"06:00:ac:10:00:02","#,
                r#""gateway_ip":"172.16.0.1","gateway_mac":"06:00:ac:10:00:01","guest_ip6":null,"guest_prefix6":null,"#,
                r#""gateway_ip6":null,"slot_ip":"100.64.0.44","slot_ip6":null,"host_end":"slot42","#,
                r#""host_ifindex":100042}"#
            )
        );
        assert!(json(true).contains(r#""guest_ip6":"fd00::2","guest_prefix6":64,"gateway_ip6":"fd00::1""#));
    }

    #[test]
    fn a_lease_as_a_table() {
        let leases = [LeaseView::from(&lease(true))];
        assert_eq!(
            lease_table(&leases).to_string(),
            "\
SLOT  GENERATION  NETNS      TAP    MTU  GUEST          GUEST MAC          GATEWAY     SLOT IP
  42           7  slot-0042  tap0  1450  172.16.0.2/30  06:00:ac:10:00:02  172.16.0.1  100.64.0.44
"
        );
    }

    #[test]
    fn the_environment_has_what_the_slot_has() {
        let names = |ip6| {
            let environment = LeaseView::from(&lease(ip6)).environment();
            environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let (without, with) = (names(false), names(true));
        assert_eq!(without[..3], ["NETSLOT_SLOT=42", "NETSLOT_GENERATION=7", "NETSLOT_NETNS=slot-0042"]);
        assert!(without.iter().all(|line| !line.contains('6') || !line.contains("IP6")));
        assert_eq!(with[without.len()..][..2], ["NETSLOT_GUEST_IP6=fd00::2", "NETSLOT_GUEST_PREFIX6=64"]);
    }

    /// The help of `exec` names what a program finds.
    #[test]
    fn every_variable_is_in_the_help() {
        use clap::CommandFactory;
        let exec = crate::cli::Cli::command();
        let help = exec.find_subcommand("exec").and_then(|exec| exec.get_long_about()).expect("help").to_string();
        for (name, _) in LeaseView::from(&lease(true)).environment() {
            assert!(help.contains(name), "{name} is not in the help of exec");
        }
    }

    const NOW_NS: u64 = 90_000_000_000_000;

    fn slots() -> [SlotView; 4] {
        let free = Slot { slot: 0, generation: 2, state: State::Free, reason: 0, owner: None, binding: None };
        let owner = Owner {
            uid: 1000,
            gid: 1001,
            pid: 4242,
            since_ns: NOW_NS - 67_000_000_000,
            policy: Policy::OnExit,
            tag: Text::cut("web-7"),
        };
        let binding = Binding {
            vni: 70_000,
            remote: Ip::V4([192, 0, 2, 9]),
            tenant_v4: Some([10, 1, 2, 3]),
            tenant_v6: Some(Ipv6Addr::LOCALHOST.octets()),
        };
        let leased = Slot { slot: 41, generation: 7, state: State::Leased, owner: Some(owner), ..free };
        let bound = Slot { slot: 42, binding: Some(binding), ..leased };
        let set_aside = Slot { slot: 43, state: State::Quarantined, reason: 4, ..free };
        [free, leased, bound, set_aside].map(|slot| SlotView::new(&slot, NOW_NS, ""))
    }

    #[test]
    fn slots_as_a_table() {
        assert_eq!(
            slot_table(&slots()).to_string(),
            "\
SLOT  STATE        GENERATION   UID   PID    FOR  RELEASE  TAG    BOUND TO
   0  free                  2
  41  leased                7  1000  4242  1m07s  on-exit  web-7
  42  leased                7  1000  4242  1m07s  on-exit  web-7  VNI 70000 at 192.0.2.9: 10.1.2.3, ::1
  43  quarantined           2                                     its tap is still held open
"
        );
    }

    #[test]
    fn slots_as_json() {
        let [free, _, bound, set_aside] = slots().map(|slot| serde_json::to_string(&slot).expect("a value"));
        assert_eq!(free, r#"{"slot":0,"state":"free","generation":2,"reason":null,"owner":null,"binding":null}"#);
        assert_eq!(
            bound,
            concat!(
                r#"{"slot":42,"state":"leased","generation":7,"reason":null,"#,
                r#""owner":{"uid":1000,"gid":1001,"pid":4242,"since_ns":89933000000000,"leased_ms":67000,"#,
                r#""policy":"on-exit","tag":"web-7"},"#,
                r#""binding":{"vni":70000,"remote":"192.0.2.9","tenant_ip":"10.1.2.3","tenant_ip6":"::1"}}"#
            )
        );
        assert!(set_aside.contains(r#""reason":"its tap is still held open""#), "{set_aside}");
    }

    #[test]
    fn one_slot_as_facts() {
        let [_, _, bound, _] = slots();
        assert_eq!(
            lines(&bound.facts()),
            "\
slot        42
state       leased
generation  7
owner       uid 1000, gid 1001, pid 4242
leased for  1m07s
release     on-exit
tag         web-7
bound to    VNI 70000 at 192.0.2.9, guest is 10.1.2.3, ::1
"
        );
        let set_aside =
            Slot { slot: 43, generation: 2, state: State::Quarantined, reason: 4, owner: None, binding: None };
        let told = lines(&SlotView::new(&set_aside, NOW_NS, "tap0 has another MAC").facts());
        assert!(told.contains("because     tap0 has another MAC\n"), "{told}");
    }

    #[test]
    fn the_daemons_counts_as_facts_and_json() {
        let status = reply::Status {
            server: Text::cut("netslot 0.1.0"),
            pid: 812,
            uptime_ms: 86_460_000,
            slots: 4_000,
            states: [0, 3_988, 9, 2, 1, 0],
            waiters: 3,
            connections: 4,
            leases_total: 1_000,
            releases_total: 991,
            empty_total: 5,
        };
        let view = StatusView::from(&status);
        assert_eq!(
            view.facts(),
            "\
daemon       netslot 0.1.0, pid 812, up 1d00h
slots        4000: 3988 free, 9 leased, 2 scrubbing, 1 quarantined
leases       1000 given, 991 ended, 5 refused for want of a slot
waiting      3
connections  4
"
        );
        assert_eq!(
            serde_json::to_string(&view).expect("a value"),
            concat!(
                r#"{"server":"netslot 0.1.0","pid":812,"uptime_ms":86460000,"slots":4000,"building":0,"free":3988,"#,
                r#""leased":9,"scrubbing":2,"quarantined":1,"rebuilding":0,"waiters":3,"connections":4,"#,
                r#""leases_total":1000,"releases_total":991,"empty_total":5}"#
            )
        );
    }

    #[test]
    fn spans_in_their_two_largest_units() {
        for (s, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (3_599, "59m59s"),
            (3_600, "1h00m"),
            (86_399, "23h59m"),
            (86_400, "1d00h"),
            (8_640_000, "100d00h"),
        ] {
            assert_eq!(span(Duration::from_secs(s)), text);
        }
    }
}
