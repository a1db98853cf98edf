//! The template namespace: carries the sysctls that every slot's namespace starts with, and finds out whether this
//! kernel hands them on. Writes sysctls; makes no device.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::error::PassError;
use crate::netlink::observed::Link;
use crate::netlink::{Socket, route};
use crate::sys::{fault, netns, thread};

/// What a slot's namespace starts with, below /proc/sys/net. With IPv6 it stays silent (no address made, no router
/// asked, no duplicate looked for) though it cannot be switched off here: `disable_ipv6` is never inherited
/// (addrconf_init_net, net/ipv6/addrconf.c).
///
/// No IPv6 forwarding where the pool has no IPv6: a router joins ff02::2 on every device, and reports that.
const SYSCTLS: [(&str, &str); 13] = [
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
    ("ipv6/conf/all/addr_gen_mode", "1"),
];

/// Besides, where all packets come and go by one device: its route is the way back.
const STRICT: [(&str, &str); 2] = [("ipv4/conf/all/rp_filter", "1"), ("ipv4/conf/default/rp_filter", "1")];

/// Instead, where the pool has tunnel devices: the look for the way back knows no mark (fib_validate_source,
/// net/ipv4/fib_frontend.c), so it ends at up0 also for what came out of the tunnel.
const LOOSE: [(&str, &str); 2] = [("ipv4/conf/all/rp_filter", "2"), ("ipv4/conf/default/rp_filter", "2")];

/// Besides, where the pool has IPv6.
const SYSCTLS6: [(&str, &str); 1] = [("ipv6/conf/all/forwarding", "1")];

/// A namespace in which [`SYSCTLS`] are set.
#[derive(Debug)]
pub struct Template {
    netns: OwnedFd,
    /// /proc/sys/net as an open directory: what it shows follows the namespace of the thread that looks, and the
    /// threads that look have no /proc.
    sysctls: OwnedFd,
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
        let path = PathBuf::from("/proc/sys/net");
        let sysctls =
            File::open(&path).map(OwnedFd::from).map_err(|error| PassError::File { call: "open", path, error })?;
        thread::apart(|| {
            make_namespace()?;
            write_all(&sysctls, ipv6, tunnels)?;
            let path = PathBuf::from("/proc/thread-self/ns/net");
            let netns = netns::current().map_err(|error| PassError::File { call: "open", path, error })?;
            make_namespace()?;
            let bare = Socket::open()?.dump(route::dump_links, Link::read)?.len() == 1;
            Ok::<_, PassError>((netns, are_inherited(&sysctls, ipv6, tunnels), bare))
        })
        .map_err(failed("start a thread"))?
        .map(|(netns, inherited, bare)| Self { netns, sysctls, ipv6, tunnels, inherited, bare })
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
    /// (`devconf_inherit_init_net` = 3), else written, which costs more with every namespace there is
    /// (proc_sys_compare: one hash chain for all namespaces' entries of a name).
    ///
    /// # Errors
    /// [`PassError::Call`].
    pub fn make_namespace(&self) -> Result<(), PassError> {
        netns::enter(self.netns.as_fd()).map_err(failed("setns to the template namespace"))?;
        make_namespace()?;
        if self.inherited { Ok(()) } else { write_all(&self.sysctls, self.ipv6, self.tunnels) }
    }
}

fn make_namespace() -> Result<(), PassError> {
    netns::make().map_err(failed("unshare(CLONE_NEWNET)"))
}

/// The sysctls of a pool with or without IPv6 and tunnel devices.
fn wanted(ipv6: bool, tunnels: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let filter = if tunnels { LOOSE } else { STRICT };
    SYSCTLS.into_iter().chain(filter).chain(SYSCTLS6.into_iter().filter(move |_| ipv6))
}

fn write_all(sysctls: &OwnedFd, ipv6: bool, tunnels: bool) -> Result<(), PassError> {
    for (name, value) in wanted(ipv6, tunnels) {
        match openat(sysctls, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => {
                File::from(fd).write_all(value.as_bytes()).map_err(|error| {
                    let path = PathBuf::from("/proc/sys/net").join(name);
                    PassError::File { call: "write", path, error }
                })?;
                fault::point();
            }
            Err(Errno::ENOENT) if name.starts_with("ipv6/") => {} // a kernel without IPv6
            Err(errno) => return Err(failed("open a sysctl of a new namespace")(errno)),
        }
    }
    Ok(())
}

fn are_inherited(sysctls: &OwnedFd, ipv6: bool, tunnels: bool) -> bool {
    wanted(ipv6, tunnels).all(|(name, value)| {
        let Ok(fd) = openat(sysctls, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) else {
            return name.starts_with("ipv6/");
        };
        let mut found = String::new();
        File::from(fd).read_to_string(&mut found).is_ok_and(|_| found.trim() == value)
    })
}

fn failed(call: &'static str) -> impl Fn(Errno) -> PassError {
    move |errno| PassError::Call { call, errno }
}
