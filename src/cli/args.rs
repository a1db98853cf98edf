//! The options of each command, with the help that people read; syntax only, nothing here acts.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use netslot_abi::SlotState;

use super::value;
use crate::limits::{TRACE_SNAPLEN, TRACE_SNAPLEN_MAX, TRACE_SNAPLEN_MIN};
use crate::slot::{Generation, SlotId};

/// Options of `up`.
#[derive(Debug, Args)]
#[command(
    about = "Make all slots, or repair, grow or shrink the pool to what is configured",
    long_about = "\
Make all slots, or repair, grow or shrink the pool to what is configured.

The pass compares what is wanted with what exists and does the difference, so it can be run again at any time: a \
whole pool costs nothing, a half-made one is finished, and a leased slot is never touched. Stopped by SIGINT or \
SIGTERM it restores the host's settings and says what exists.",
    after_help = "\
Examples:
  netslot up
  netslot up --slots 4000 --json
  netslot up --dry-run             # print what would be done, touch nothing"
)]
pub struct UpArgs {
    /// Print the operations that would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Make this many instead of the configured number
    #[arg(long, value_name = "N", value_parser = value::count)]
    pub slots: Option<u32>,
}

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(
    about = "Hold the pool and lease it over the socket",
    long_about = "\
Hold the pool and lease it over the socket, until SIGINT or SIGTERM.

The daemon adopts what 'netslot up' has made and every lease of the daemon before it. It may be killed at any time: \
slots, leases and packets go on, and the next one adopts them again.

With --replace it takes the place of the running one, with its connections: requests that wait for a slot go on \
waiting, and no client sees an error. What is wrong with the newcomer shows before that, and the running one serves on.",
    after_help = "\
Examples:
  netslot serve
  netslot serve --up               # make or repair the pool first, serving as soon as 'ready_after' slots are there
  netslot serve --replace          # a newer version, or a changed configuration, without a moment in between
  netslot serve --up --slots 64 --socket /tmp/netslot.sock"
)]
pub struct ServeArgs {
    /// Make or repair the pool first, as 'netslot up' does
    #[arg(long)]
    pub up: bool,
    /// Take over from the running daemon, connections and all
    #[arg(long, conflicts_with = "up")]
    pub replace: bool,
    /// Make this many instead of the configured number
    #[arg(long, value_name = "N", requires = "up", value_parser = value::count)]
    pub slots: Option<u32>,
}

/// When a lease ends without a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Only by 'release'
    Explicit,
    /// When the process that leased it ends, however it ends
    OnExit,
    /// When the connection that leased it closes
    OnDisconnect,
}

/// How a lease is asked for.
#[derive(Debug, Args)]
pub struct LeaseOptions {
    /// Wait this long for a free slot: 500ms, 2s, 1m; 0 fails at once
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = value::duration)]
    pub wait: Duration,
    /// Your own word for the lease, up to 24 bytes; 'list' shows it and filters by it
    #[arg(long, value_name = "TEXT", value_parser = value::tag)]
    pub tag: Option<String>,
    /// No guest: the slot's address is the namespace's own, for programs in it ('netslot exec --no-guest -- curl …')
    #[arg(long)]
    pub no_guest: bool,
}

/// Options of `lease`.
#[derive(Debug, Args)]
#[command(
    about = "Lease free slots",
    long_about = "\
Lease free slots and print what a VMM needs: namespace, tap, addresses, MACs, MTU, and the generation.

The generation is the proof of ownership that bind, unbind and release ask for; an older one is refused, whoever \
shows it. The lease lasts until it is released. With another --policy the command goes on running, and the lease ends \
with it. Either all that were asked for are leased, or none.",
    after_help = "\
Examples:
  netslot lease --tag build-17
  netslot lease --count 8 --wait 2s --json     # one JSON object per line
  netslot lease --json | jq -r .netns"
)]
pub struct LeaseArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value::count)]
    pub count: u32,
    /// How it is asked for.
    #[command(flatten)]
    pub lease: LeaseOptions,
    /// When the lease ends without a release
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Policy::Explicit)]
    pub policy: Policy,
}

/// Which tenant network a slot is bound to.
#[derive(Clone, Debug, Args)]
pub struct BindOptions {
    /// The tenant's virtual network identifier
    #[arg(long, value_parser = value::vni)]
    pub vni: u32,
    /// Outer address of the other end of the tunnel
    #[arg(long, value_name = "IP")]
    pub remote: IpAddr,
    /// The guest's address in the tenant's network; once for IPv4, once for IPv6
    #[arg(long = "tenant-ip", value_name = "IP", required = true)]
    pub tenant_ips: Vec<IpAddr>,
}

/// The guest's addresses in the tenant's network; at least one is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantIps {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// Options that are each right and do not go together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UsageError {
    /// Two addresses of one family.
    #[error("--tenant-ip {0} and {1}: one IPv4 and one IPv6 address at most")]
    TenantIpTwice(IpAddr, IpAddr),
    /// `0.0.0.0`, `::`, multicast or broadcast: a record keeps zero for "none", and no guest may bear the others.
    #[error("--tenant-ip {0}: no guest can have that address")]
    TenantIpUnusable(IpAddr),
}

impl BindOptions {
    /// The tenant addresses by family.
    ///
    /// # Errors
    /// Two of one family, or an address that no guest can have.
    pub fn tenant_ips(&self) -> Result<TenantIps, UsageError> {
        let mut ips = TenantIps { v4: None, v6: None };
        for ip in &self.tenant_ips {
            let unusable = ip.is_unspecified() || ip.is_multicast() || *ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            if unusable {
                return Err(UsageError::TenantIpUnusable(*ip));
            }
            let before = match ip {
                IpAddr::V4(v4) => ips.v4.replace(*v4).map(IpAddr::V4),
                IpAddr::V6(v6) => ips.v6.replace(*v6).map(IpAddr::V6),
            };
            if let Some(before) = before {
                return Err(UsageError::TenantIpTwice(before, *ip));
            }
        }
        Ok(ips)
    }
}

/// Options of `bind`.
#[derive(Debug, Args)]
#[command(
    about = "Connect a leased slot to a tenant's network",
    long_about = "\
Connect a leased slot to a tenant's network: from the next packet on, what the guest sends travels encapsulated to \
the remote under that VNI, and what arrives for (VNI, tenant address) reaches the guest.

Binding again replaces the binding. A slot that is not bound sends through the host's uplink instead.",
    after_help = "\
Examples:
  netslot bind 42 --generation 7 --vni 5001 --remote 192.0.2.10 --tenant-ip 10.0.3.4
  netslot bind slot42 --generation 7 --vni 5001 --remote 2001:db8::10 --tenant-ip 10.0.3.4 --tenant-ip fd00:3::4"
)]
pub struct BindArgs {
    /// The slot: 42, slot42 or slot-0042
    #[arg(value_parser = value::slot)]
    pub slot: SlotId,
    /// The generation that the lease was answered with
    #[arg(long, value_name = "G", value_parser = value::generation)]
    pub generation: Generation,
    /// What to bind to.
    #[command(flatten)]
    pub bind: BindOptions,
}

/// Options of `unbind`.
#[derive(Debug, Args)]
#[command(
    about = "Disconnect a leased slot from its tenant's network",
    after_help = "Examples:\n  netslot unbind 42 --generation 7"
)]
pub struct UnbindArgs {
    /// The slot: 42, slot42 or slot-0042
    #[arg(value_parser = value::slot)]
    pub slot: SlotId,
    /// The generation that the lease was answered with
    #[arg(long, value_name = "G", value_parser = value::generation)]
    pub generation: Generation,
}

/// Options of `release`.
#[derive(Debug, Args)]
#[command(
    about = "Give a leased slot back",
    long_about = "\
Give a leased slot back. It is unbound at once, then scrubbed in the background and leased again only when it is \
proven equal to a fresh one; a tap that the VMM still holds open is waited for.",
    after_help = "Examples:\n  netslot release 42 --generation 7"
)]
pub struct ReleaseArgs {
    /// The slot: 42, slot42 or slot-0042
    #[arg(value_parser = value::slot)]
    pub slot: SlotId,
    /// The generation that the lease was answered with
    #[arg(long, value_name = "G", value_parser = value::generation)]
    pub generation: Generation,
}

/// Options of `exec`.
#[derive(Debug, Args)]
#[command(
    about = "Lease a slot, run a program inside it, give it back",
    long_about = "\
Lease a slot, run a program inside its network namespace, and give the slot back when the program ends.

This process becomes the program: signals reach it, its exit code is the command's, and however it ends, the daemon \
sees it end and takes the slot back. It has a /sys of its own that shows the slot's devices, and finds the slot in its \
environment: NETSLOT_SLOT, NETSLOT_GENERATION, NETSLOT_NETNS, NETSLOT_NETNS_PATH, NETSLOT_TAP, NETSLOT_MTU, \
NETSLOT_GUEST_IP, NETSLOT_GUEST_PREFIX, NETSLOT_GUEST_MAC, NETSLOT_GATEWAY_IP, NETSLOT_GATEWAY_MAC, NETSLOT_SLOT_IP, \
NETSLOT_HOST_END, NETSLOT_HOST_IFINDEX; with IPv6 also NETSLOT_GUEST_IP6, NETSLOT_GUEST_PREFIX6, NETSLOT_GATEWAY_IP6, \
NETSLOT_SLOT_IP6. With --vni, --remote and --tenant-ip the slot is bound before the program starts.",
    after_help = "\
Examples:
  netslot exec -- ip -brief address
  netslot exec --wait 2s --tag vm-1 -- firecracker --api-sock /tmp/vm-1.sock
  netslot exec --vni 5001 --remote 192.0.2.10 --tenant-ip 10.0.3.4 -- sh",
    // Of the binding, all or nothing: clap leaves the options of an optional group required on their own.
    mut_arg("vni", |vni| vni.required(false).requires_all(["remote", "tenant_ips"])),
    mut_arg("remote", |remote| remote.required(false).requires("vni")),
    mut_arg("tenant_ips", |ips| ips.required(false).requires("vni"))
)]
pub struct ExecArgs {
    /// How the slot is asked for.
    #[command(flatten)]
    pub lease: LeaseOptions,
    /// What to bind to, if anything.
    #[command(flatten)]
    pub bind: Option<BindOptions>,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Options of `list`.
#[derive(Debug, Args)]
#[command(
    about = "List slots",
    after_help = "\
Examples:
  netslot list
  netslot list --state leased --json | jq length
  netslot list --state quarantined
  netslot list --uid 1000 --tag build-17"
)]
pub struct ListArgs {
    /// Only slots in this state
    #[arg(long, value_parser = value::state)]
    pub state: Option<SlotState>,
    /// Only slots that this user has leased
    #[arg(long)]
    pub uid: Option<u32>,
    /// Only slots that were leased with this tag
    #[arg(long, value_name = "TEXT", value_parser = value::tag)]
    pub tag: Option<String>,
}

/// Options of `show`.
#[derive(Debug, Args)]
#[command(
    about = "Show one slot: lease, binding, addresses, packets and drops by reason",
    long_about = "\
Show one slot: its lease and binding, its addresses, and what the packet programs counted for it since the pool was made: \
packets and bytes that passed, DHCP answers, and drops by reason.

Root sees all of it without a daemon too, as it is pinned in bpf_dir; other users see no counters.",
    after_help = "Examples:\n  netslot show 42\n  netslot show slot42 --json\n  netslot show 42 --rules\n  netslot show 42 --diff\n  netslot show 42 --for firecracker"
)]
pub struct ShowArgs {
    /// The slot: 42, slot42 or slot-0042
    #[arg(value_parser = value::slot)]
    pub slot: SlotId,
    /// Show the rules that are in it, by nft where that is installed; needs root, and no daemon
    #[arg(long)]
    pub rules: bool,
    /// Show in what it is not as it was made, one line for each difference; needs root, and no daemon. Ends with 8 if it is not
    #[arg(long, conflicts_with = "rules")]
    pub diff: bool,
    /// Show the lines that attach a VM of that kind to it, to be pasted
    #[arg(long = "for", value_name = "VMM", value_enum, conflicts_with_all = ["rules", "diff"])]
    pub vmm: Option<Vmm>,
}

/// Programs that run a VM on a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vmm {
    /// API requests and the jailer's arguments
    Firecracker,
    /// `--net`
    CloudHypervisor,
    /// `-netdev` and `-device`
    Qemu,
}

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(
    about = "Compare slots with what they were made as",
    long_about = "\
Compare slots with what they were made as: devices, addresses, routes, rules, neighbours, sysctls, programs, and who is \
still in them. Nothing in them is changed, whoever has leased them; no daemon is needed, but root.

What a lease itself brings about is no difference while it lasts: learned neighbours, tracked connections, sockets and \
processes. Slots that are being made or cleaned are passed over. Ends with 8 if a slot is not as it was made.",
    after_help = "\
Examples:
  netslot verify
  netslot verify 41 42
  netslot verify --json | jq '.differ[].slot'"
)]
pub struct VerifyArgs {
    /// The slots: 42, slot42 or slot-0042; all of them where none is named
    #[arg(value_parser = value::slot)]
    pub slots: Vec<SlotId>,
}

/// Options of `trace`.
#[derive(Debug, Args)]
#[command(
    about = "Show a slot's packets as they pass, before and after rewriting",
    long_about = "\
Show a slot's packets as they pass, before and after rewriting, at these hooks:

  guest   the tap: out = as the guest sends it, in = as the guest gets it
  slot    past the slot's routing and rules: out = before it gets the slot's or the tenant's address, in = after it got the \
guest's
  tunnel  only with tunnel = \"geneve\": before the slot's tunnel device encapsulates, after it has decapsulated
  uplink  out = as the network gets it, in = as it came from there; only what is this slot's, in its tunnel or by its \
addresses

Lines are much like tcpdump's; times are UTC. A packet that shows at one hook and not at the next was dropped between \
them: 'netslot show' counts why. The trace ends with the lease, after COUNT frames, after SECONDS, or by SIGINT. Needs \
root, and no daemon.",
    after_help = "\
Examples:
  netslot trace 42
  netslot trace slot42 -c 20 --json                 # one JSON object per line
  netslot trace 42 -w slot42.pcapng --seconds 30    # one interface per hook, for Wireshark
  netslot trace 42 -w - | wireshark -k -i -"
)]
pub struct TraceArgs {
    /// The slot: 42, slot42 or slot-0042
    #[arg(value_parser = value::slot)]
    pub slot: SlotId,
    /// Write the frames to this file in pcapng's format, and print no lines; - is stdout
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// End after so many frames
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// Keep so many bytes of each frame
    #[arg(long, value_name = "BYTES", default_value_t = TRACE_SNAPLEN,
        value_parser = clap::value_parser!(u32).range(i64::from(TRACE_SNAPLEN_MIN)..=i64::from(TRACE_SNAPLEN_MAX)))]
    pub snaplen: u32,
}

/// Options of `check`.
#[derive(Debug, Args)]
#[command(
    about = "List what this host lacks before a pool can be made",
    long_about = "\
List what this host lacks before a pool can be made: for each thing its value, what is needed, why, and the command \
that mends it. Nothing is changed. Ends with 4 if something is missing without which no pool can be made.",
    after_help = "\
Examples:
  netslot check
  netslot check --slots 10000
  netslot check --json | jq '.findings[] | select(.level == \"lack\")'"
)]
pub struct CheckArgs {
    /// Judge for this many slots instead of the configured number
    #[arg(long, value_name = "N", value_parser = value::count)]
    pub slots: Option<u32>,
    /// List also what is as it should be
    #[arg(long)]
    pub all: bool,
}

/// Options of `config`.
#[derive(Debug, Args)]
#[command(
    about = "Print the effective configuration and where each value comes from",
    long_about = "\
Print the effective configuration as a file that could be used as it stands, with the origin of each value.",
    after_help = "\
Examples:
  netslot config
  netslot config --check --config ./netslot.toml   # say whether it would be taken, print nothing
  netslot config --json | jq .slot_cidr"
)]
pub struct ConfigArgs {
    /// Print nothing: only say whether the configuration would be taken
    #[arg(long)]
    pub check: bool,
}

/// Options of `compile-rules`.
#[derive(Debug, Args)]
#[command(
    about = "Compile rules in nft's or iptables' own syntax to an image that slots get without either",
    long_about = "\
Compile rules in nft's or iptables' own syntax to an image that slots get without either.

The files are loaded by nft, iptables-nft-restore or ip6tables-nft-restore into a namespace that is gone afterwards; \
what the kernel then has is stored, and 'netslot up' makes it in each slot by one message to the kernel. With the \
configuration naming the image as rules.slot, a host needs neither program. The image keeps the text it came from. In \
the namespace stand lo, br0, up0 and the tap, as in a slot.",
    after_help = "\
Examples:
  netslot compile-rules slot.nft -o slot.rules
  netslot compile-rules --check slot.nft -o slot.rules  # also hold both listings against each other
  netslot compile-rules rules.v4 rules.v6 -o slot.rules # as iptables-save and ip6tables-save print them
  netslot compile-rules --root root.nft -o root.rules"
)]
pub struct CompileRulesArgs {
    /// The rules; several files make one image
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the image goes
    #[arg(short, long, value_name = "IMAGE")]
    pub output: PathBuf,
    /// Read all files as iptables-save prints them, whatever they look like
    #[arg(long, conflicts_with = "ip6tables")]
    pub iptables: bool,
    /// Read all files as ip6tables-save prints them, whatever they look like
    #[arg(long)]
    pub ip6tables: bool,
    /// Compile for the host's own namespace, where none of a slot's devices is
    #[arg(long)]
    pub root: bool,
    /// Also compare 'nft -s list ruleset' of the files and of the image, each in a namespace of its own
    #[arg(long)]
    pub check: bool,
}

/// Options of `rules`.
#[derive(Debug, Args)]
#[command(
    about = "Change the rules of a pool that is in use",
    after_help = "Examples:\n  netslot rules apply\n  netslot rules apply --json"
)]
pub struct RulesArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RulesCommand,
}

/// What `rules` can be told to do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum RulesCommand {
    /// Give every slot, leased ones too, and the host the rules that the configuration names now
    #[command(long_about = "\
Give every slot, leased ones too, and the host the rules that the configuration names now.

In each slot the old rules are replaced by the new ones in one transaction: no packet meets a part of either, and a slot \
that refuses the new ones keeps the old. Counters, quotas and what packets have added to sets begin anew. Ends with 1 \
if a slot kept its old rules; running it again tries all once more.")]
    Apply,
}

/// Options of `destroy`.
#[derive(Debug, Args)]
#[command(
    about = "Take all slots down",
    long_about = "\
Take all slots down and remove what 'netslot up' has made. Refused while slots are leased, unless --force is given: \
then the VMs in them lose their network.",
    after_help = "Examples:\n  netslot destroy\n  netslot destroy --force"
)]
pub struct DestroyArgs {
    /// Also take leased slots down
    #[arg(long)]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ips: &[&str]) -> BindOptions {
        let tenant_ips = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        BindOptions { vni: 1, remote: Ipv4Addr::LOCALHOST.into(), tenant_ips }
    }

    #[test]
    fn tenant_addresses_are_one_of_each_family() {
        assert_eq!(
            options(&["fd00::1", "10.0.0.1"]).tenant_ips(),
            Ok(TenantIps { v4: "10.0.0.1".parse().ok(), v6: "fd00::1".parse().ok() })
        );
        assert_eq!(options(&["fd00::1"]).tenant_ips(), Ok(TenantIps { v4: None, v6: "fd00::1".parse().ok() }));
        let twice = options(&["10.0.0.1", "10.0.0.2"]).tenant_ips().expect_err("two of IPv4");
        assert_eq!(twice.to_string(), "--tenant-ip 10.0.0.1 and 10.0.0.2: one IPv4 and one IPv6 address at most");
    }

    #[test]
    fn an_address_that_no_guest_can_have_is_refused() {
        for ip in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let refused = options(&[ip]).tenant_ips();
            assert!(matches!(refused, Err(UsageError::TenantIpUnusable(_))), "{ip}: {refused:?}");
        }
    }
}
