//! The template namespace: carries the sysctls that every slot's namespace starts with, and finds out whether this
//! kernel hands them on. Writes sysctls; makes no device.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use super::error::PassError;
use super::messages;
use crate::limits::PROCFS_SLOTS;
use crate::netlink::observed::Link;
use crate::netlink::{Batch, Socket, route};
use crate::sys::procfs::Procfs;
use crate::sys::{fault, netns, thread};

/// What a slot's namespace starts with, below /proc/sys/net. With IPv6 it stays silent (no address made, no router
/// asked, no duplicate looked for) though it cannot be switched off here: `disable_ipv6` is never inherited
/// (addrconf_init_net, net/ipv6/addrconf.c).
///
/// No IPv6 forwarding where the pool has no IPv6: a router joins ff02::2 on every device, and reports that.
///
/// Some are the kernel's own default, and are set because a host may have another one, which would be handed on:
/// kube-proxy lets 127.0.0.0/8 be routed, load balancers have ARP ignored.
const SYSCTLS: [(&str, &str); 28] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    ("ipv4/conf/default/route_localnet", "0"),
    ("ipv4/conf/all/proxy_arp", "0"),
    ("ipv4/conf/default/proxy_arp", "0"),
    ("ipv4/conf/all/arp_ignore", "0"),
    ("ipv4/conf/default/arp_ignore", "0"),
    ("ipv4/conf/all/arp_announce", "0"),
    ("ipv4/conf/default/arp_announce", "0"),
    ("ipv4/conf/all/accept_local", "0"),
    ("ipv4/conf/default/accept_local", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    ("ipv4/conf/all/src_valid_mark", "0"),
    ("ipv4/conf/default/src_valid_mark", "0"),
    ("ipv6/conf/all/proxy_ndp", "0"),
    ("ipv6/conf/default/proxy_ndp", "0"),
];

/// Besides, where all packets come and go by one device: its route is the way back.
const STRICT: [(&str, &str); 2] = [("ipv4/conf/all/rp_filter", "1"), ("ipv4/conf/default/rp_filter", "1")];

/// Instead, where the pool has tunnel devices: the look for the way back knows no mark, so it ends at up0 also for what came
/// out of the tunnel, and the loose one refuses whatever comes in by a device without an address (__fib_validate_source,
/// net/ipv4/fib_frontend.c). What a guest may send as, and a tunnel bring, the programs decide.
const OFF: [(&str, &str); 2] = [("ipv4/conf/all/rp_filter", "0"), ("ipv4/conf/default/rp_filter", "0")];

/// Besides, with and without IPv6 in the pool.
const ROUTER6: [(&str, &str); 1] = [("ipv6/conf/all/forwarding", "1")];
const NO_ROUTER6: [(&str, &str); 1] = [("ipv6/conf/all/forwarding", "0")];

/// Besides, and of each namespace alone: the kernel hands none of it on (tcp_sk_init, net/ipv4/tcp_ipv4.c). What TCP learns
/// of a peer stands in one table of all namespaces, of which no look at one slot is cheap (tcp_metrics_nl_dump,
/// net/ipv4/tcp_metrics.c: 0.2 ms): so nothing is kept that would tell the next tenant of it. Before 6.7 a kernel that has
/// not taken "tcp_metrics: do not create an entry from tcp_init_metrics()" notes the peer all the same, without a time.
const OWN: [(&str, &str); 1] = [("ipv4/tcp_no_metrics_save", "1")];

/// Loopback is there before the others are written, and takes over what IPv4's default is, but not IPv6's. Where they are
/// handed on it begins with them: without these lines slots would differ by how they were made.
const LOOPBACK6: [(&str, &str); 4] = [
    ("ipv6/conf/lo/accept_ra", "0"),
    ("ipv6/conf/lo/accept_redirects", "0"),
    ("ipv6/conf/lo/dad_transmits", "0"),
    ("ipv6/conf/lo/router_solicitations", "0"),
];

/// A namespace in which [`SYSCTLS`] are set.
#[derive(Debug)]
pub struct Template {
    netns: OwnedFd,
    /// The threads that make namespaces have no /proc; renewed once so many have used it.
    procfs: Mutex<(Arc<Procfs>, u32)>,
    ipv6: bool,
    tunnels: bool,
    inherited: bool,
    bare: bool,
}

impl Template {
    /// Makes the template, and one namespace from it to see what is handed on.
    ///
    /// # Errors
    /// [`PassError`]: EPERM without CAP_SYS_ADMIN.
    pub fn make(ipv6: bool, tunnels: bool) -> Result<Self, PassError> {
        let procfs = Arc::new(new_procfs()?);
        thread::apart(|| {
            make_namespace()?;
            write_all(&procfs, ipv6, tunnels)?;
            let path = PathBuf::from("/proc/thread-self/ns/net");
            let netns = netns::current().map_err(|error| PassError::File { call: "open", path, error })?;
            make_namespace()?;
            let bare = Socket::open()?.dump(route::dump_links, Link::read)?.len() == 1;
            Ok::<_, PassError>((netns, are_inherited(&procfs, ipv6, tunnels), bare))
        })
        .map_err(failed("start a thread"))?
        .map(|(netns, inherited, bare)| Self {
            netns,
            procfs: Mutex::new((procfs, 0)),
            ipv6,
            tunnels,
            inherited,
            bare,
        })
    }

    /// Whether a namespace made from it starts with its sysctls.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Whether a namespace made from it has nothing but loopback: no tunnel module's fallback device.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// Puts the calling thread into a new namespace that has the sysctls: inherited where the kernel does so
    /// (`devconf_inherit_init_net` = 3), else written, as those are that it never hands on.
    ///
    /// # Errors
    /// [`PassError`].
    pub fn make_namespace(&self) -> Result<(), PassError> {
        netns::enter(self.netns.as_fd()).map_err(failed("setns to the template namespace"))?;
        make_namespace()?;
        let procfs = self.procfs()?;
        if !self.inherited {
            write_all(&procfs, self.ipv6, self.tunnels)?;
        }
        write_own(&procfs)
    }

    /// One whose chains of entries are short.
    fn procfs(&self) -> Result<Arc<Procfs>, PassError> {
        let mut procfs = self.procfs.lock().expect("no holder panics");
        if procfs.1 == PROCFS_SLOTS {
            *procfs = (Arc::new(new_procfs()?), 0);
        }
        procfs.1 += 1;
        Ok(Arc::clone(&procfs.0))
    }
}

fn new_procfs() -> Result<Procfs, PassError> {
    let path = PathBuf::from("a proc file system");
    Procfs::new().map_err(|error| PassError::File { call: "mount", path, error })
}

fn make_namespace() -> Result<(), PassError> {
    netns::make().map_err(failed("unshare(CLONE_NEWNET)"))
}

/// The sysctls of a pool with or without IPv6 and tunnel devices.
fn wanted(ipv6: bool, tunnels: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let filter = if tunnels { OFF } else { STRICT };
    SYSCTLS.into_iter().chain(filter).chain(if ipv6 { ROUTER6 } else { NO_ROUTER6 })
}

/// The names of the sysctls that a slot may be given, below /proc/sys/net, as far as a look at them is one. To look at
/// `addr_gen_mode` takes RTNL, by trying again and again (addrconf_sysctl_addr_gen_mode, net/ipv6/addrconf.c): 230 times,
/// measured while slots were cleaned on two threads. Each device's own stands in its message.
pub fn sysctls() -> impl Iterator<Item = &'static str> {
    let all = SYSCTLS.into_iter().chain(STRICT).chain(ROUTER6).chain(OWN);
    all.map(|(name, _)| name).filter(|name| !name.ends_with("addr_gen_mode"))
}

fn write_all(procfs: &Procfs, ipv6: bool, tunnels: bool) -> Result<(), PassError> {
    let mut has_ipv6 = true;
    for (name, value) in wanted(ipv6, tunnels).chain(LOOPBACK6) {
        match procfs.write(&format!("sys/net/{name}"), value) {
            Ok(()) => {}
            Err(error) if is_without_ipv6(name, &error) => has_ipv6 = false,
            Err(error) => return Err(unwritten(name)(error)),
        }
    }
    if has_ipv6 {
        let mut batch = Batch::new();
        route::generate_no_address(&mut batch, messages::LOOPBACK);
        if let Some(refusal) = Socket::open()?.send(&mut batch)?.into_iter().next() {
            return Err(PassError::RefusedAll { what: "the IPv6 addresses of loopback", refusal });
        }
    }
    // One, whatever their number: killed among them is killed before the namespace is kept.
    fault::point();
    Ok(())
}

fn write_own(procfs: &Procfs) -> Result<(), PassError> {
    for (name, value) in OWN {
        procfs.write(&format!("sys/net/{name}"), value).map_err(unwritten(name))?;
    }
    fault::point();
    Ok(())
}

fn unwritten(name: &'static str) -> impl FnOnce(io::Error) -> PassError {
    move |error| PassError::File { call: "write", path: PathBuf::from("/proc/sys/net").join(name), error }
}

fn are_inherited(procfs: &Procfs, ipv6: bool, tunnels: bool) -> bool {
    wanted(ipv6, tunnels).all(|(name, value)| match procfs.read(&format!("sys/net/{name}"), &mut [0; 64]) {
        Ok(found) => found.trim() == value,
        Err(error) => is_without_ipv6(name, &error),
    })
}

fn is_without_ipv6(name: &str, error: &io::Error) -> bool {
    name.starts_with("ipv6/") && error.kind() == io::ErrorKind::NotFound
}

fn failed(call: &'static str) -> impl Fn(Errno) -> PassError {
    move |errno| PassError::Call { call, errno }
}
