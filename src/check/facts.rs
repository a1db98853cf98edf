//! The facts of the host that a pool depends on, read from /proc, /sys and rtnetlink; it judges none of them and changes
//! nothing.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};

use super::network::Network;
use super::path;
use super::text::{self, Mount};
use crate::config::Config;
use crate::execute::knobs::{self, Seen};
use crate::netlink::observed::{Address, Link, Route};
use crate::netlink::{Socket, SocketError, route};
use crate::sys::kernel;

/// Everything that is looked at. `None` = could not be read here.
#[derive(Debug)]
pub(super) struct Facts {
    /// `6.12.117-amd64`.
    pub kernel: Option<String>,
    /// Bits of the effective capabilities, as in linux/capability.h.
    pub capabilities: Option<u64>,
    /// Whether user ids are the host's own: not in a user namespace.
    pub initial_user_namespace: bool,
    /// Whether /dev/net/tun could be opened.
    pub tun: io::Result<()>,
    /// What the kernel is built with or can load, in the order of [`FEATURES`].
    pub features: Vec<Presence>,
    /// Hard limit of open files.
    pub open_files: Option<u64>,
    /// `user.max_net_namespaces`.
    pub net_namespaces: Option<u64>,
    /// `fs.mount-max`.
    pub mounts_max: Option<u64>,
    /// The mounts of this mount namespace, in the order in which they were made.
    pub mounts: Vec<Mount>,
    /// MemAvailable.
    pub memory_bytes: Option<u64>,
    /// CPUs that the kernel keeps room for.
    pub cpus_possible: Option<u32>,
    /// CPUs that run.
    pub cpus_online: Option<u32>,
    /// `net.ipv4.neigh.default.gc_thresh3`; seen in the initial network namespace alone.
    pub neighbours_max: Option<u64>,
    /// Whether the host routes IPv6 packets that are not its own.
    pub ipv6_forwarding: Option<u64>,
    /// The host settings that a pass turns.
    pub knobs: Vec<Seen>,
    /// Devices, addresses and routes of this network namespace.
    pub network: Result<Network, SocketError>,
    /// What may stand in the packets' way.
    pub path: path::Seen,
    /// The directories that are written to.
    pub dirs: Vec<Dir>,
}

/// A part of the kernel.
#[derive(Debug)]
pub(super) struct Feature {
    /// The name that people know it by.
    pub name: &'static str,
    /// Its module, where it can be one.
    pub module: Option<&'static str>,
    /// A function that it has since 6.1 at least, by which it is found in /proc/kallsyms.
    pub symbol: &'static str,
    /// Its switch in the kernel's configuration.
    pub option: &'static str,
    /// What for.
    pub why: &'static str,
}

/// What a pool uses of the kernel.
pub(super) const FEATURES: [Feature; 7] = [
    Feature {
        name: "kernel: bridge",
        module: Some("bridge"),
        symbol: "br_dev_setup",
        option: "CONFIG_BRIDGE",
        why: "each slot has a bridge, which is the guest's gateway",
    },
    Feature {
        name: "kernel: veth",
        module: Some("veth"),
        symbol: "veth_newlink",
        option: "CONFIG_VETH",
        why: "each slot is joined to the host by a veth pair",
    },
    Feature {
        name: "kernel: tun",
        module: Some("tun"),
        symbol: "tun_chr_open",
        option: "CONFIG_TUN",
        why: "each slot has a tap, which the VMM opens",
    },
    Feature {
        name: "kernel: bpf",
        module: None,
        symbol: "bpf_check",
        option: "CONFIG_BPF_SYSCALL",
        why: "programs translate, encapsulate and filter each slot's packets",
    },
    Feature {
        name: "kernel: clsact",
        module: Some("sch_ingress"),
        symbol: "clsact_init",
        option: "CONFIG_NET_SCH_INGRESS",
        why: "it is the hook on which the programs hang",
    },
    Feature {
        name: "kernel: cls_bpf",
        module: Some("cls_bpf"),
        symbol: "cls_bpf_classify",
        option: "CONFIG_NET_CLS_BPF",
        why: "it attaches a program to all host ends in one message",
    },
    // The last: asked for with tunnel = "geneve" alone.
    Feature {
        name: "kernel: geneve",
        module: Some("geneve"),
        symbol: "geneve_setup",
        option: "CONFIG_GENEVE",
        why: "with tunnel = \"geneve\" each slot has a geneve device",
    },
];

/// Whether the kernel has a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Built in, or its module is loaded.
    There,
    /// Its module is installed and will be loaded when first used.
    Loadable,
    /// Its module is installed, and `kernel.modules_disabled` forbids loading it.
    Locked,
    /// Not there.
    Absent,
    /// Neither the kernel's symbols nor its modules can be read.
    Unknown,
}

/// A directory that is written to, or the nearest one above it that is there.
#[derive(Debug)]
pub(super) struct Dir {
    /// The key that names it.
    pub key: &'static str,
    /// As configured.
    pub path: PathBuf,
    /// The one that was tried.
    pub nearest: PathBuf,
    /// Whether it may be written to.
    pub writable: Result<(), nix::errno::Errno>,
}

/// Looks at the host.
pub(super) fn gather(config: &Config) -> Facts {
    let status = read("/proc/self/status").unwrap_or_default();
    let kernel = kernel::release();
    let network = network();
    let socket_dir = config.socket.parent().unwrap_or(Path::new("/"));
    Facts {
        capabilities: text::capabilities(&status),
        initial_user_namespace: read("/proc/self/uid_map").is_none_or(|map| text::is_identity(&map)),
        tun: OpenOptions::new().read(true).write(true).open("/dev/net/tun").map(drop),
        features: features(kernel.as_deref().unwrap_or_default()),
        open_files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
        net_namespaces: number("/proc/sys/user/max_net_namespaces"),
        mounts_max: number("/proc/sys/fs/mount-max"),
        mounts: text::mounts(&read("/proc/self/mountinfo").unwrap_or_default()),
        memory_bytes: text::memory_available(&read("/proc/meminfo").unwrap_or_default()),
        cpus_possible: cpus_possible(),
        cpus_online: read("/sys/devices/system/cpu/online").and_then(|list| text::cpus(&list)),
        ipv6_forwarding: number("/proc/sys/net/ipv6/conf/all/forwarding"),
        neighbours_max: number("/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
        knobs: knobs::look(),
        path: path::look(config, network.as_ref().ok()),
        network,
        dirs: [("run_dir", &*config.run_dir), ("netns_dir", &config.netns_dir), ("socket", socket_dir)]
            .map(|(key, path)| dir(key, path))
            .into(),
        kernel,
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// CPUs that there can be: what the kernel allocates per CPU, it allocates for each of them.
#[must_use]
pub fn cpus_possible() -> Option<u32> {
    read("/sys/devices/system/cpu/possible").and_then(|list| text::cpus(&list))
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn network() -> Result<Network, SocketError> {
    let mut socket = Socket::open()?;
    Ok(Network {
        links: socket.dump(route::dump_links, Link::read)?,
        addresses: socket.dump(route::dump_addresses, Address::read)?,
        routes: socket.dump(route::dump_routes, Route::read)?,
    })
}

fn dir(key: &'static str, path: &Path) -> Dir {
    let there = |path: &&Path| path.exists();
    let nearest = path.ancestors().find(there).unwrap_or(Path::new("/")).to_owned();
    let writable = access(&nearest, AccessFlags::W_OK | AccessFlags::X_OK);
    Dir { key, path: path.to_owned(), nearest, writable }
}

fn features(release: &str) -> Vec<Presence> {
    let symbols = read("/proc/kallsyms").unwrap_or_default();
    let modules = |list: &str| read(format!("/lib/modules/{release}/{list}"));
    let built_in = modules("modules.builtin").unwrap_or_default();
    let installed = modules("modules.dep");
    let locked = number("/proc/sys/kernel/modules_disabled") == Some(1);
    let presence = |feature: &Feature| {
        let in_list = |list: &str| feature.module.is_some_and(|module| text::has_module(list, module));
        if text::has_symbol(&symbols, feature.symbol) || in_list(&built_in) {
            Presence::There
        } else if installed.as_deref().is_some_and(in_list) {
            if locked { Presence::Locked } else { Presence::Loadable }
        } else if symbols.is_empty() {
            Presence::Unknown
        } else {
            Presence::Absent
        }
    };
    FEATURES.iter().map(presence).collect()
}
