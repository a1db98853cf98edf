//! The template namespace: carries the sysctls that every slot's namespace starts with, and finds out whether this
//! kernel hands them on. Writes sysctls; makes no device.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use super::error::PassError;
use super::messages::LOOPBACK;
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

/// Written to a device, or for all of them, it does more than to store it: loopback gets its address while it is down, and
/// with that a route, when it is raised, that it has nowhere else (fixup_permanent_addr, net/ipv6/addrconf.c). So it is
/// written for devices to come, and set on loopback by a message.
const ADDR_GEN_MODE: &str = "addr_gen_mode";

/// Besides, where all packets come and go by one device: its route is the way back.
const STRICT: [(&str, &str); 2] = [("ipv4/conf/all/rp_filter", "1"), ("ipv4/conf/default/rp_filter", "1")];

/// Instead, where the pool has tunnel devices: the look for the way back knows no mark, so it ends at up0 also for what came
/// out of the tunnel, and the loose one refuses whatever comes in by a device without an address (__fib_validate_source,
/// net/ipv4/fib_frontend.c). What a guest may send as, and a tunnel bring, the programs decide.
const OFF: [(&str, &str); 2] = [("ipv4/conf/all/rp_filter", "0"), ("ipv4/conf/default/rp_filter", "0")];

/// Besides, with and without IPv6 in the pool.
const ROUTER6: [(&str, &str); 1] = [("ipv6/conf/all/forwarding", "1")];
const NO_ROUTER6: [(&str, &str); 1] = [("ipv6/conf/all/forwarding", "0")];

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
    /// (`devconf_inherit_init_net` = 3), else written.
    ///
    /// # Errors
    /// [`PassError`].
    pub fn make_namespace(&self) -> Result<(), PassError> {
        netns::enter(self.netns.as_fd()).map_err(failed("setns to the template namespace"))?;
        make_namespace()?;
        if self.inherited {
            return Ok(());
        }
        write_all(&*self.procfs()?, self.ipv6, self.tunnels)?;
        quieten_loopback()
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
fn wanted(ipv6: bool, tunnels: bool) -> impl Iterator<Item = (Cow<'static, str>, &'static str)> {
    let filter = if tunnels { OFF } else { STRICT };
    let all = SYSCTLS.into_iter().chain(filter).chain(if ipv6 { ROUTER6 } else { NO_ROUTER6 });
    // Loopback is there from the start, with what the namespace was born with: where that was not handed on, it has yet to
    // be given what all devices after it begin with. Else a slot made in one way would not look like one made in the other.
    let of_loopback = |(name, value): &(&str, &'static str)| {
        let (family, key) = name.split_once("/conf/default/").filter(|(_, key)| *key != ADDR_GEN_MODE)?;
        Some((Cow::Owned(format!("{family}/conf/lo/{key}")), *value))
    };
    all.clone().map(|(name, value)| (Cow::Borrowed(name), value)).chain(all.filter_map(move |s| of_loopback(&s)))
}

/// The names of the sysctls that a slot may be given, below /proc/sys/net, as far as a look at them is one. To look at
/// `addr_gen_mode` takes RTNL, by trying again and again (addrconf_sysctl_addr_gen_mode, net/ipv6/addrconf.c): 230 times,
/// measured while slots were cleaned on two threads. Each device's own stands in its message.
pub fn sysctls() -> impl Iterator<Item = &'static str> {
    let all = SYSCTLS.into_iter().chain(STRICT).chain(ROUTER6);
    all.map(|(name, _)| name).filter(|name| !name.ends_with(ADDR_GEN_MODE))
}

fn write_all(procfs: &Procfs, ipv6: bool, tunnels: bool) -> Result<(), PassError> {
    for (name, value) in wanted(ipv6, tunnels) {
        match procfs.write(&format!("sys/net/{name}"), value) {
            Ok(()) => {}
            Err(error) if is_without_ipv6(&name, &error) => {}
            Err(error) => {
                let path = PathBuf::from("/proc/sys/net").join(&*name);
                return Err(PassError::File { call: "write", path, error });
            }
        }
    }
    // One, whatever their number: killed among them is killed before the namespace is kept.
    fault::point();
    Ok(())
}

/// Loopback's own address generation, in the calling thread's namespace; where the kernel has no IPv6 it needs none.
fn quieten_loopback() -> Result<(), PassError> {
    let mut batch = Batch::new();
    route::make_no_address(&mut batch, LOOPBACK);
    match Socket::open()?.send(&mut batch)?.into_iter().find(|refusal| refusal.errno != Errno::EAFNOSUPPORT) {
        Some(refusal) => Err(PassError::RefusedAll { what: "switch loopback's address generation off", refusal }),
        None => Ok(()),
    }
}

fn are_inherited(procfs: &Procfs, ipv6: bool, tunnels: bool) -> bool {
    wanted(ipv6, tunnels).all(|(name, value)| match procfs.read(&format!("sys/net/{name}"), &mut [0; 64]) {
        Ok(found) => found.trim() == value,
        Err(error) => is_without_ipv6(&name, &error),
    })
}

fn is_without_ipv6(name: &str, error: &io::Error) -> bool {
    name.starts_with("ipv6/") && error.kind() == io::ErrorKind::NotFound
}

fn failed(call: &'static str) -> impl Fn(Errno) -> PassError {
    move |errno| PassError::Call { call, errno }
}
