//! Which device is the uplink and how large the guest's packets may be, as functions of what was seen on the host; it
//! looks at nothing itself.

use super::{Config, Tunnel};
use crate::limits::MTU_MIN_IPV6;
use crate::slot::LinkName;

/// Bytes that Geneve puts before the guest's IP packet: the inner Ethernet header, the Geneve header without options
/// (RFC 8926), UDP.
const GENEVE_BYTES: u32 = 14 + 8 + 8;

/// The outer IP version of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// 20 bytes.
    V4,
    /// 40 bytes.
    V6,
}

/// Bytes that a bound slot's packet grows by on its way to the uplink: 0, 50 or 70.
#[must_use]
pub const fn overhead(tunnel: Tunnel, outer: Outer) -> u32 {
    match (tunnel, outer) {
        (Tunnel::Off, _) => 0,
        (Tunnel::Ebpf | Tunnel::Geneve, Outer::V4) => GENEVE_BYTES + 20,
        (Tunnel::Ebpf | Tunnel::Geneve, Outer::V6) => GENEVE_BYTES + 40,
    }
}

/// A device of the root namespace as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenLink {
    /// Its name.
    pub name: LinkName,
    /// Its MTU.
    pub mtu: u32,
}

/// A default route of the main table as it was seen; one of several next hops counts as one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenDefaultRoute {
    /// The device it leaves by.
    pub device: LinkName,
    /// Whether it is IPv6's.
    pub ipv6: bool,
    /// Its metric; the lowest wins.
    pub metric: u32,
}

/// Where packets leave the host, and how large they may be inside a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The device towards the network.
    pub uplink: LinkName,
    /// The MTU of every device inside a slot, and so of the guest.
    pub mtu: u32,
}

/// Why there is no usable uplink.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnderlayError {
    /// Nothing leads out.
    #[error("no default route, hence no uplink: set `uplink` to the device towards the network (here: {0})")]
    NoDefaultRoute(String),
    /// Several lead out, none better.
    #[error("default routes of the same metric leave by {0} and {1}: set `uplink` to the one that slots shall use")]
    Ambiguous(LinkName, LinkName),
    /// What was named, or what a route names, is not there.
    #[error("uplink {0}: no such device here; there are {1}")]
    NoDevice(LinkName, String),
    /// Packets of the configured size would not leave.
    #[error(
        "mtu = {mtu} does not fit the uplink {uplink}: of its {uplink_mtu} bytes a tunnel takes {overhead}; set `mtu` \
         to {} or less, or to \"auto\"", .uplink_mtu.saturating_sub(*.overhead)
    )]
    TooLarge { mtu: u32, uplink: LinkName, uplink_mtu: u32, overhead: u32 },
    /// Too little is left.
    #[error(
        "the uplink {uplink} has an MTU of {uplink_mtu}, which leaves {left} inside a tunnel, and {needed} are needed \
         {}: raise it with 'ip link set {uplink} mtu {}'",
        if *.needed == MTU_MIN_IPV6 { "for IPv6" } else { "at least" }, .needed + (.uplink_mtu - .left)
    )]
    TooSmall { uplink: LinkName, uplink_mtu: u32, left: u32, needed: u32 },
}

/// Finds the uplink, and the MTU inside the slots.
///
/// The uplink is the configured one, else that of the best default route: IPv4's before IPv6's, then the lowest metric.
/// The MTU is the configured one, else what the uplink's leaves inside a tunnel over IPv6, whichever version a tunnel
/// will have: the pool is made before the first remote is known, snapshots keep their guest's MTU, and a host must not
/// build other slots after a reboot because a router's advertisement came late. The 20 bytes of IPv4 are given up.
///
/// # Errors
/// [`UnderlayError`], with what to set.
pub fn resolve(config: &Config, links: &[SeenLink], routes: &[SeenDefaultRoute]) -> Result<Underlay, UnderlayError> {
    let uplink = match config.uplink {
        Some(uplink) => uplink,
        None => best_default(routes)?.ok_or_else(|| UnderlayError::NoDefaultRoute(names(links)))?,
    };
    let link = links.iter().find(|link| link.name == uplink);
    let uplink_mtu = link.ok_or_else(|| UnderlayError::NoDevice(uplink, names(links)))?.mtu;
    let overhead = overhead(config.tunnel, Outer::V6);
    let left = uplink_mtu.saturating_sub(overhead);
    let mtu = match config.mtu {
        Some(mtu) if mtu > left => return Err(UnderlayError::TooLarge { mtu, uplink, uplink_mtu, overhead }),
        Some(mtu) => mtu,
        None => left.min(crate::limits::MTU_MAX),
    };
    let needed = if config.guest.ip6.is_some() { MTU_MIN_IPV6 } else { crate::limits::MTU_MIN };
    if mtu < needed {
        return Err(UnderlayError::TooSmall { uplink, uplink_mtu, left, needed });
    }
    Ok(Underlay { uplink, mtu })
}

fn best_default(routes: &[SeenDefaultRoute]) -> Result<Option<LinkName>, UnderlayError> {
    let rank = |route: &SeenDefaultRoute| (route.ipv6, route.metric);
    let Some(best) = routes.iter().min_by_key(|route| rank(route)) else { return Ok(None) };
    match routes.iter().find(|other| rank(other) == rank(best) && other.device != best.device) {
        Some(other) => Err(UnderlayError::Ambiguous(best.device, other.device)),
        None => Ok(Some(best.device)),
    }
}

/// The first devices that could be meant; a host may have thousands.
fn names(links: &[SeenLink]) -> String {
    let ours = |name: &str| name == "lo" || crate::address::slot_of_host_end(name).is_some();
    let mut names: Vec<&str> = links.iter().map(|link| link.name.as_str()).filter(|name| !ours(name)).collect();
    if names.is_empty() {
        return "none but lo".into();
    }
    let more = names.len() > 8;
    names.truncate(8);
    names.join(", ") + if more { ", …" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> LinkName {
        text.parse().expect("a device name")
    }

    fn link(text: &str, mtu: u32) -> SeenLink {
        SeenLink { name: name(text), mtu }
    }

    fn route(device: &str, ipv6: bool, metric: u32) -> SeenDefaultRoute {
        SeenDefaultRoute { device: name(device), ipv6, metric }
    }

    fn with(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    #[test]
    fn the_overhead_is_what_the_headers_add_up_to() {
        for tunnel in [Tunnel::Ebpf, Tunnel::Geneve] {
            assert_eq!((overhead(tunnel, Outer::V4), overhead(tunnel, Outer::V6)), (50, 70));
        }
        assert_eq!((overhead(Tunnel::Off, Outer::V4), overhead(Tunnel::Off, Outer::V6)), (0, 0));
    }

    #[test]
    fn the_uplink_is_the_configured_one_or_the_best_default_route() {
        let links = [link("lo", 65_536), link("eth0", 1_500), link("eth1", 9_001)];
        let found = |config: &Config, routes: &[SeenDefaultRoute]| {
            resolve(config, &links, routes).map(|u| (u.uplink.to_string(), u.mtu))
        };
        let auto = Config::default();
        let eth = |n: u32, mtu| Ok((format!("eth{n}"), mtu));
        assert_eq!(found(&auto, &[route("eth0", false, 100)]), eth(0, 1_430));
        assert_eq!(found(&auto, &[route("eth0", false, 100), route("eth1", false, 50)]), eth(1, 8_931));
        assert_eq!(found(&auto, &[route("eth0", false, 100), route("eth1", true, 50)]), eth(0, 1_430));
        assert_eq!(found(&auto, &[route("eth1", true, 50)]), eth(1, 8_931));
        assert_eq!(found(&auto, &[route("eth1", false, 0), route("eth1", false, 0)]), eth(1, 8_931));
        let named = with(|c| c.uplink = Some(name("eth1")));
        assert_eq!(found(&named, &[route("eth0", false, 0)]), eth(1, 8_931));
        assert_eq!(found(&named, &[]), eth(1, 8_931));
        let off = with(|c| c.tunnel = Tunnel::Off);
        assert_eq!(found(&off, &[route("eth0", false, 0)]), eth(0, 1_500));
        let small = with(|c| c.mtu = Some(1_400));
        assert_eq!(found(&small, &[route("eth0", false, 0)]), eth(0, 1_400));
    }

    #[test]
    fn a_missing_uplink_says_what_to_set() {
        let links = [link("lo", 65_536), link("eth0", 1_500), link("slot7", 1_500)];
        let told = |config: &Config, routes: &[SeenDefaultRoute]| {
            resolve(config, &links, routes).expect_err("no uplink").to_string()
        };
        assert_eq!(
            told(&Config::default(), &[]),
            "no default route, hence no uplink: set `uplink` to the device towards the network (here: eth0)"
        );
        assert_eq!(
            told(&Config::default(), &[route("eth0", false, 0), route("eth1", false, 0)]),
            "default routes of the same metric leave by eth0 and eth1: set `uplink` to the one that slots shall use"
        );
        assert_eq!(
            told(&with(|c| c.uplink = Some(name("eth9"))), &[]),
            "uplink eth9: no such device here; there are eth0"
        );
        let none = resolve(&Config::default(), &links[..1], &[]).expect_err("no uplink");
        assert_eq!(none, UnderlayError::NoDefaultRoute("none but lo".into()));
    }

    #[test]
    fn an_mtu_that_does_not_fit_says_which_would() {
        let resolve = |config: &Config, mtu| resolve(config, &[link("eth0", mtu)], &[route("eth0", false, 0)]);
        let large = with(|c| c.mtu = Some(1_450));
        assert_eq!(
            resolve(&large, 1_500).expect_err("70 bytes are the tunnel's").to_string(),
            "mtu = 1450 does not fit the uplink eth0: of its 1500 bytes a tunnel takes 70; set `mtu` to 1430 or less, \
             or to \"auto\""
        );
        let ipv6 = with(|c| c.guest.ip6 = "fd00::2/64".parse().ok());
        assert_eq!(
            resolve(&ipv6, 1_349).expect_err("one byte short").to_string(),
            "the uplink eth0 has an MTU of 1349, which leaves 1279 inside a tunnel, and 1280 are needed for IPv6: \
             raise it with 'ip link set eth0 mtu 1350'"
        );
        assert_eq!(resolve(&ipv6, 1_350).map(|u| u.mtu), Ok(1_280));
        assert!(resolve(&Config::default(), 600).is_err());
        assert_eq!(resolve(&Config::default(), 65_591).map(|u| u.mtu), Ok(65_521));
        assert_eq!(resolve(&Config::default(), 100_000).map(|u| u.mtu), Ok(65_521));
    }
}
