//! Facts → findings: what each fact means for the pool that is configured, and what mends it; pure.

use std::io;
use std::path::Path;

use super::facts::{Dir, FEATURES, Facts, Feature, Presence};
use super::text::{Mount, covering};
use super::{Finding, Level, network, path};
use crate::config::{Config, Forward, Tunnel};
use crate::sys::kernel;

/// Kernel memory of a slot that does not depend on the CPUs: namespace 187 KB, bridge 50, veth pair 87, tap 52
/// (slab and page counters over 200 slots, 6.18).
const SLOT_BYTES: u64 = 376 * 1024;
/// The tunnel device of geneve mode (from its structures' sizes).
const GENEVE_BYTES: u64 = 40 * 1024;
/// Kernel memory of a slot per possible CPU: 5.4 KB measured on 2 CPUs, 6.2 by the structures' sizes with geneve.
const SLOT_BYTES_PER_CPU: u64 = 6_349;
/// Memory that must be left when the pool is made, for the daemon and the pass itself.
const MEMORY_MARGIN_BYTES: u64 = 64 << 20;
/// Files beside the slots' namespaces and the connections: maps, sockets of threads, the log.
const FILES_MARGIN: u64 = 128;
/// Namespaces beside the slots': the template, and the few of other programs.
const NAMESPACES_MARGIN: u64 = 64;
/// Mounts beside the slots' and those of the host that the vault begins with.
const MOUNTS_MARGIN: u64 = 16;

/// linux/capability.h
const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
const SYS_ADMIN: (u32, &str) = (21, "CAP_SYS_ADMIN");
const BPF: (u32, &str) = (39, "CAP_BPF");

/// Judges every fact, in a fixed order.
pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Finding> {
    let pool = Pool::new(config, facts);
    let mut findings = vec![pool.kernel(), pool.capabilities(), user_namespace(facts), pool.tun()];
    findings.extend(pool.features());
    findings.extend([
        pool.open_files(),
        pool.net_namespaces(),
        pool.mounts(),
        pool.memory(),
        pool.possible_cpus(),
        pool.neighbours(),
    ]);
    findings.extend(pool.ipv6_forwarding());
    findings.extend(pool.knobs());
    findings.push(pool.bpffs());
    findings.extend(facts.dirs.iter().map(|dir| pool.dir(dir)));
    findings.extend(path::judge(config, &facts.path, facts.network.as_ref().ok()));
    match &facts.network {
        Ok(network) => findings.extend(network::judge(config, network)),
        Err(error) => findings.push(Finding {
            name: "network",
            level: Level::Lack,
            value: error.to_string(),
            need: "devices, addresses and routes can be listed".into(),
            why: "a pool is made over rtnetlink",
            mend: None,
        }),
    }
    findings
}

const UNREAD: &str = "cannot be read here";
const HIDDEN: &str = "not looked at: that takes privilege";

fn user_namespace(facts: &Facts) -> Finding {
    let value = if facts.initial_user_namespace { "the host's own" } else { "one of its own" };
    let why =
        "inside a user namespace root may make devices, and still loads no eBPF program and turns no host setting";
    Finding::fine("user namespace", value, "the host's own", why).unless(
        facts.initial_user_namespace,
        Level::Lack,
        "run it on the host, or in a container without a user namespace",
    )
}

/// The facts, and the pool that they are judged for.
struct Pool<'a> {
    config: &'a Config,
    facts: &'a Facts,
    /// Capabilities that this process lacks.
    missing: Vec<&'static str>,
}

impl<'a> Pool<'a> {
    fn new(config: &'a Config, facts: &'a Facts) -> Self {
        // What cannot be read is not known to be missing.
        let bits = facts.capabilities.unwrap_or(u64::MAX);
        let has = |(bit, _): (u32, &str)| bits & (1 << bit) != 0;
        let mut missing: Vec<_> = [NET_ADMIN, SYS_ADMIN].into_iter().filter(|cap| !has(*cap)).collect();
        // bpf_capable() is satisfied by either (include/linux/capability.h).
        if !has(BPF) && !has(SYS_ADMIN) {
            missing.push(BPF);
        }
        Self { config, facts, missing: missing.into_iter().map(|(_, name)| name).collect() }
    }

    fn kernel(&self) -> Finding {
        let value = self.facts.kernel.clone().unwrap_or_else(|| UNREAD.into());
        let version = kernel::version(&value);
        if self.facts.kernel.is_some() && ((6, 1)..(6, 3)).contains(&version) && self.config.tunnel == Tunnel::Ebpf {
            let why = "a bound slot's packets are taken out of Geneve with BPF_F_ADJ_ROOM_DECAP_L3_IPV4, which 6.3 \
                       brought: on this kernel they leave, and nothing comes back; slots without a binding are served";
            let mend = "boot a newer kernel, or set tunnel = \"off\"";
            let need = "6.3, better 6.12 or later, with tunnel = \"ebpf\"";
            return Finding::fine("kernel", value, need, why).unless(false, Level::Lack, mend);
        }
        let why = "6.1 is the oldest long-term kernel that netslot is written for; from 6.9 on a restarted daemon can tell \
                   a lease's owner from another process with the same id";
        let level = if self.facts.kernel.is_some() && version < (6, 1) { Level::Lack } else { Level::Note };
        Finding::fine("kernel", value, "6.1, better 6.12 or later", why).unless(
            version >= (6, 12),
            level,
            "boot a newer kernel",
        )
    }

    fn slots_max(&self) -> u64 {
        self.config.slots_max.into()
    }

    /// A limit that is a number.
    fn at_least(name: &'static str, value: Option<u64>, need: u64, why: &'static str, mend: String) -> Finding {
        let shown = value.map_or_else(|| UNREAD.into(), |value| value.to_string());
        // What cannot be read is not known to be too little.
        let level = if value.is_some() { Level::Lack } else { Level::Note };
        Finding::fine(name, shown, format!("at least {need}"), why).unless(
            value.is_some_and(|value| value >= need),
            level,
            mend,
        )
    }

    fn capabilities(&self) -> Finding {
        let value = match self.missing.as_slice() {
            [] if self.facts.capabilities.is_none() => UNREAD.into(),
            [] => "all there".into(),
            missing => format!("without {}", missing.join(", ")),
        };
        let why = "network devices, namespaces and eBPF programs are made with them";
        Finding::fine("capabilities", value, "CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF", why).unless(
            self.missing.is_empty(),
            Level::Lack,
            "run as root; in a unit: AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_BPF",
        )
    }

    fn tun(&self) -> Finding {
        let (name, need, why) = ("/dev/net/tun", "opens", "taps are made through it");
        let Err(error) = &self.facts.tun else { return Finding::fine(name, "opens", need, why) };
        if error.kind() == io::ErrorKind::PermissionDenied && !self.missing.is_empty() {
            return Finding::fine(name, HIDDEN, need, why).unless(false, Level::Note, "run this check as root");
        }
        let mend = if error.kind() == io::ErrorKind::NotFound {
            "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200"
        } else {
            "modprobe tun; in a container allow the device c 10:200"
        };
        Finding::fine(name, error.to_string(), need, why).unless(false, Level::Lack, mend)
    }

    fn features(&self) -> impl Iterator<Item = Finding> {
        let asked =
            |(feature, _): &(&Feature, _)| self.config.tunnel == Tunnel::Geneve || feature.option != "CONFIG_GENEVE";
        FEATURES.iter().zip(&self.facts.features).filter(asked).map(|(feature, presence)| {
            let (value, level, mend) = match presence {
                Presence::There => ("there", Level::Ok, None),
                Presence::Loadable => ("a module, loaded when first used", Level::Ok, None),
                Presence::Locked => {
                    let mend = "reboot, and load it before kernel.modules_disabled is set (/etc/modules-load.d)".into();
                    ("a module that may not be loaded any more", Level::Lack, Some(mend))
                }
                Presence::Absent => {
                    let mend = match feature.module {
                        Some(module) => format!("modprobe {module}, or boot a kernel with {}", feature.option),
                        None => format!("boot a kernel with {}", feature.option),
                    };
                    ("not in this kernel", Level::Lack, Some(mend))
                }
                Presence::Unknown => {
                    let mend = format!("look for {} in the kernel's configuration", feature.option);
                    ("cannot be told: /proc/kallsyms cannot be read", Level::Note, Some(mend))
                }
            };
            Finding { level, mend, ..Finding::fine(feature.name, value, feature.option, feature.why) }
        })
    }

    fn open_files(&self) -> Finding {
        let need = self.slots_max() + 2 * u64::from(self.config.quotas.connections) + FILES_MARGIN;
        let why = "the daemon holds one file per slot (slots_max) and two per connection (quotas.connections)";
        let mend = format!("LimitNOFILE={need} in the unit; in a shell as root 'ulimit -n {need}'");
        Self::at_least("open files (hard limit)", self.facts.open_files, need, why, mend)
    }

    fn net_namespaces(&self) -> Finding {
        let need = self.slots_max() + NAMESPACES_MARGIN;
        let why = "each slot is a network namespace";
        let mend = format!("sysctl -w user.max_net_namespaces={need}");
        Self::at_least("user.max_net_namespaces", self.facts.net_namespaces, need, why, mend)
    }

    fn mounts(&self) -> Finding {
        let mounts = u64::try_from(self.facts.mounts.len()).unwrap_or(u64::MAX);
        let need = self.slots_max() + mounts + MOUNTS_MARGIN;
        let why = "the vault, one mount namespace, keeps one mount per slot beside the host's";
        Self::at_least("fs.mount-max", self.facts.mounts_max, need, why, format!("sysctl -w fs.mount-max={need}"))
    }

    /// IPv4's forwarding is switched on for host ends and uplink alone; IPv6's is one setting for the whole host
    /// (ip6_forward, net/ipv6/ip6_output.c), which is not netslot's to change: a router takes no router advertisements.
    fn ipv6_forwarding(&self) -> Option<Finding> {
        let needed = self.config.slot_cidr6.is_some() && self.config.forward == Forward::Stack;
        needed.then(|| {
            let why = "slots' IPv6 packets pass the host's routing";
            let mend = "sysctl -w net.ipv6.conf.all.forwarding=1, and accept_ra=2 on an uplink that needs router \
                        advertisements; or set `forward = \"redirect\"`";
            Self::at_least("net.ipv6.conf.all.forwarding", self.facts.ipv6_forwarding, 1, why, mend.into())
        })
    }

    fn bytes_per_slot(&self) -> u64 {
        let cpus = u64::from(self.facts.cpus_possible.unwrap_or(1));
        let tunnel = if self.config.tunnel == Tunnel::Geneve { GENEVE_BYTES } else { 0 };
        SLOT_BYTES + tunnel + cpus * SLOT_BYTES_PER_CPU
    }

    fn memory(&self) -> Finding {
        let network = self.facts.network.as_ref().ok();
        let made = network.map_or(0, |network| network.links.iter().filter(|link| network::is_ours(link)).count());
        let to_make = u64::from(self.config.slots).saturating_sub(u64::try_from(made).unwrap_or(u64::MAX));
        let need = to_make * self.bytes_per_slot() + MEMORY_MARGIN_BYTES;
        let available = self.facts.memory_bytes;
        let value = available.map_or_else(|| UNREAD.into(), |bytes| format!("{} available", size(bytes)));
        let need_text = format!(
            "{} for {to_make} slots more, {} kB each with {} possible CPUs",
            size(need),
            self.bytes_per_slot() / 1_000,
            self.facts.cpus_possible.unwrap_or(1)
        );
        let why =
            "a namespace with its devices is kernel memory, which is never swapped; the microVMs get what is left";
        let (fits, level) = match available {
            Some(bytes) if bytes < need => (false, Level::Lack),
            Some(bytes) => (need <= bytes / 2, Level::Note),
            None => (false, Level::Note),
        };
        let mend = "fewer slots; or fewer possible CPUs ('nr_cpus=' on the kernel's command line); or more memory";
        Finding::fine("memory", value, need_text, why).unless(fits, level, mend)
    }

    fn possible_cpus(&self) -> Finding {
        let (possible, online) = (self.facts.cpus_possible.unwrap_or(1), self.facts.cpus_online.unwrap_or(1));
        let spare = u64::from(possible.saturating_sub(online));
        let waste = u64::from(self.config.slots) * spare * SLOT_BYTES_PER_CPU;
        let value = format!("{possible} possible, {online} online: {} spent on the others", size(waste));
        let why = "every slot keeps counters for each CPU that the kernel holds possible, present or not";
        let fits = possible <= online.saturating_mul(2) || waste < MEMORY_MARGIN_BYTES;
        let mend = format!("'nr_cpus={online}' on the kernel's command line, where no CPU will be added");
        Finding::fine("possible CPUs", value, "about as many as are online", why).unless(fits, Level::Note, mend)
    }

    fn neighbours(&self) -> Finding {
        let value = self.facts.neighbours_max.map_or_else(|| UNREAD.into(), |max| max.to_string());
        let why = "the limit holds for all namespaces together, but the slots' neighbours are permanent entries, which \
                   it does not count (neigh_alloc, net/core/neighbour.c)";
        Finding::fine("neighbour table (gc_thresh3)", value, "any", why)
    }

    fn knobs(&self) -> impl Iterator<Item = Finding> {
        self.facts.knobs.iter().map(|knob| {
            let need = format!("{} while slots are made; set back afterwards", knob.wanted);
            let (value, mend) = match &knob.value {
                Ok(value) => (value.split_whitespace().collect::<Vec<_>>().join(" "), None),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !self.missing.is_empty() => {
                    (HIDDEN.into(), Some("run this check as root".into()))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mend = "run it in the host's initial network namespace, where this setting is".into();
                    ("not there".into(), Some(mend))
                }
                Err(error) => (error.to_string(), Some(format!("make {} writable", knob.path))),
            };
            let level = if mend.is_none() { Level::Ok } else { Level::Note };
            Finding { level, mend, ..Finding::fine(knob.path, value, need, knob.cost) }
        })
    }

    fn bpffs(&self) -> Finding {
        let (dir, mounts) = (&*self.config.bpf_dir, &self.facts.mounts);
        let name = "bpffs";
        let need = format!("a writable bpffs at or above {}", dir.display());
        let why = "maps and programs are pinned there, so that packets and leases go on without the daemon";
        let Some(seen) = covering(mounts, dir) else {
            return Finding::fine(name, UNREAD, need, why).unless(false, Level::Note, "mount /proc");
        };
        let at = seen.point.display();
        let is_below = |mount: &&Mount| mount.id == seen.parent && mount.point == seen.point && mount.kind == "bpf";
        match (&*seen.kind, mounts.iter().find(is_below)) {
            ("bpf", None) if !seen.read_only => Finding::fine(name, format!("mounted at {at}"), need, why),
            ("bpf", None) => {
                let mend = format!("mount -o remount,rw {at}");
                Finding::fine(name, format!("read-only at {at}"), need, why).unless(false, Level::Lack, mend)
            }
            ("bpf", Some(_)) => Finding::fine(name, format!("one at {at} lies over another"), need, why).unless(
                false,
                Level::Note,
                format!("umount {at}, if pins were made in the one below: from here they cannot be seen"),
            ),
            (kind, Some(_)) => {
                let value = format!("the one at {at} is hidden by a {kind} over it");
                Finding::fine(name, value, need, why).unless(false, Level::Lack, format!("umount {at}"))
            }
            (kind, None) => {
                let value = format!("none: {} is on a {kind}", dir.display());
                Finding::fine(name, value, need, why).unless(
                    false,
                    Level::Lack,
                    format!("mount -t bpf bpf {}", bpf_point(dir).display()),
                )
            }
        }
    }

    fn dir(&self, dir: &Dir) -> Finding {
        let (name, why) = match dir.key {
            "run_dir" => ("run_dir", "it keeps the vault and the ledger"),
            "netns_dir" => ("netns_dir", "leased slots are shown there by name"),
            _ => ("socket's directory", "the daemon makes its socket there"),
        };
        let need = format!("{} can be written to", dir.path.display());
        if let Err(errno) = dir.writable {
            let value = format!("{}: {}", dir.nearest.display(), errno.desc());
            if !self.missing.is_empty() && errno == nix::errno::Errno::EACCES {
                let mend = "run this check as root";
                return Finding::fine(name, HIDDEN, need, why).unless(false, Level::Note, mend);
            }
            return Finding::fine(name, value, need, why).unless(
                false,
                Level::Lack,
                format!("choose another {}", dir.key),
            );
        }
        let on_disk = covering(&self.facts.mounts, &dir.nearest)
            .filter(|mount| !matches!(&*mount.kind, "tmpfs" | "ramfs" | "rootfs" | "overlay"));
        match on_disk {
            Some(mount) if dir.key == "run_dir" => {
                let value = format!("{} is on {}, which outlives the boot", dir.path.display(), mount.kind);
                let mend = "mount a tmpfs there, or choose a run_dir on one: after a boot, what it tells of is gone";
                Finding::fine(name, value, need, why).unless(false, Level::Note, mend)
            }
            _ => Finding::fine(name, format!("{} can be written to", dir.nearest.display()), need, why),
        }
    }
}

/// Where a bpffs is usually mounted for that directory.
fn bpf_point(dir: &Path) -> &Path {
    let usual = Path::new("/sys/fs/bpf");
    if dir.starts_with(usual) { usual } else { dir.parent().unwrap_or(usual) }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}
