//! Which device is the uplink and how large the guest's packets may be, as functions of what was seen on the host; it
//! looks at nothing itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address;
use crate::config::{Config, Outer};
use crate::limits::{MTU_MAX, MTU_MIN, MTU_MIN_IPV6};
use crate::netlink::observed::{Address, Link, Route};
use crate::netlink::route::MAIN_TABLE;
use crate::slot::{IfIndex, LinkName};

/// Where packets leave the host, and how large they may be inside a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The device towards the network.
    pub uplink: LinkName,
    /// Its index.
    pub index: IfIndex,
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
    Ambiguous(String, String),
    /// One leads out over several devices at once.
    #[error("the default route has several next hops: set `uplink` to the device that slots shall use (here: {0})")]
    Multipath(String),
    /// What was named, or what a route names, is not there.
    #[error("uplink {0}: no such device here; there are {1}")]
    NoDevice(LinkName, String),
    /// Packets of the configured size would not leave.
    #[error(
        "mtu = {mtu} does not fit the uplink {uplink}: of its {uplink_mtu} bytes a tunnel takes {overhead}; set `mtu` \
         to {} or less, or to \"auto\"", .uplink_mtu.saturating_sub(*.overhead)
    )]
    TooLarge {
        /// The configured MTU.
        mtu: u32,
        /// The device.
        uplink: LinkName,
        /// Its MTU.
        uplink_mtu: u32,
        /// What a tunnel takes of it.
        overhead: u32,
    },
    /// Too little is left.
    #[error(
        "the uplink {uplink} has an MTU of {uplink_mtu}, which leaves {} inside a slot, and {needed} are needed{}: raise \
         it with 'ip link set {uplink} mtu {}'",
        .uplink_mtu.saturating_sub(*.overhead), if *.needed == MTU_MIN_IPV6 { " for IPv6" } else { "" },
        .needed + .overhead
    )]
    TooSmall {
        /// The device.
        uplink: LinkName,
        /// Its MTU.
        uplink_mtu: u32,
        /// What a tunnel takes of it.
        overhead: u32,
        /// The least that would do.
        needed: u32,
    },
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
pub fn resolve(config: &Config, links: &[Link], routes: &[Route]) -> Result<Underlay, UnderlayError> {
    let link = match config.uplink {
        Some(uplink) => {
            let named = links.iter().find(|link| link.name == uplink.as_str());
            named.ok_or_else(|| UnderlayError::NoDevice(uplink, names(links)))?
        }
        None => best_default(links, routes)?,
    };
    let uplink: LinkName = link.name.parse().expect("a name that the kernel gave a device");
    let overhead = config.tunnel.overhead(Outer::V6);
    let left = link.mtu.saturating_sub(overhead).min(MTU_MAX);
    let needed = if config.guest.ip6.is_some() { MTU_MIN_IPV6 } else { MTU_MIN };
    let mtu = match config.mtu {
        Some(mtu) if mtu > left => {
            return Err(UnderlayError::TooLarge { mtu, uplink, uplink_mtu: link.mtu, overhead });
        }
        Some(mtu) => mtu,
        None if left < needed => {
            return Err(UnderlayError::TooSmall { uplink, uplink_mtu: link.mtu, overhead, needed });
        }
        None => left,
    };
    Ok(Underlay { uplink, index: link.index(), mtu })
}

/// This host's addresses on a device, which a tunnel's packets leave with: the first that is not of the link alone, and
/// for IPv6 neither temporary, deprecated, tentative nor refused (the others of these change, or are not ours).
#[must_use]
pub fn own_addresses(uplink: IfIndex, addresses: &[Address]) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    // linux/if_addr.h; IFA_F_SECONDARY is IFA_F_TEMPORARY of IPv4's, and of the same use here.
    const TEMPORARY: u32 = 0x01;
    const DADFAILED: u32 = 0x08;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    let fit = |a: &&Address| a.index == uplink.0 && a.flags & (TEMPORARY | DADFAILED | DEPRECATED | TENTATIVE) == 0;
    let fit = || addresses.iter().filter(fit).map(|a| a.addr);
    let v4 = fit().find_map(|a| if let IpAddr::V4(v4) = a { Some(v4).filter(|a| !a.is_link_local()) } else { None });
    let v6 =
        fit().find_map(|a| if let IpAddr::V6(v6) = a { Some(v6).filter(|a| !a.is_unicast_link_local()) } else { None });
    (v4, v6)
}

fn best_default<'a>(links: &'a [Link], routes: &[Route]) -> Result<&'a Link, UnderlayError> {
    let rank = |route: &Route| (route.ipv6, route.metric);
    let defaults = || routes.iter().filter(|route| route.prefix == 0 && route.table == MAIN_TABLE);
    let best = defaults().min_by_key(|route| rank(route));
    let best = best.ok_or_else(|| UnderlayError::NoDefaultRoute(names(links)))?;
    let link_of = |route: &Route| links.iter().find(|link| link.index == route.index);
    let link = link_of(best).ok_or_else(|| UnderlayError::Multipath(names(links)))?;
    let rival = defaults().find(|other| rank(other) == rank(best) && other.index != best.index);
    match rival.and_then(link_of) {
        Some(other) => Err(UnderlayError::Ambiguous(link.name.clone(), other.name.clone())),
        None => Ok(link),
    }
}

/// The first devices that could be meant; a host may have thousands.
fn names(links: &[Link]) -> String {
    const SHOWN: usize = 8;
    let candidates = links.iter().filter(|l| !l.loopback && address::slot_of_host_end(&l.name).is_none());
    let mut names: Vec<&str> = candidates.map(|link| link.name.as_str()).take(SHOWN + 1).collect();
    if names.len() > SHOWN {
        names[SHOWN] = "…";
    }
    if names.is_empty() { "none but lo".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tunnel;

    fn link(index: u32, name: &str, mtu: u32) -> Link {
        Link { index, name: name.into(), mtu, loopback: name == "lo", ..Link::default() }
    }

    fn links() -> Vec<Link> {
        vec![link(1, "lo", 65_536), link(2, "eth0", 1_500), link(3, "eth1", 9_001), link(100_007, "slot7", 1_500)]
    }

    fn default(index: u32, ipv6: bool, metric: u32) -> Route {
        Route { table: MAIN_TABLE, ipv6, to: None, prefix: 0, via: None, index, metric }
    }

    fn with(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    #[test]
    fn the_uplink_is_the_configured_one_or_the_best_default_route() {
        let found = |config: &Config, routes: &[Route]| {
            resolve(config, &links(), routes).map(|u| (u.uplink.to_string(), u.index.0, u.mtu))
        };
        let (eth0, eth1) = (|mtu| Ok(("eth0".into(), 2, mtu)), |mtu| Ok(("eth1".into(), 3, mtu)));
        let auto = Config::default();
        assert_eq!(found(&auto, &[default(2, false, 100)]), eth0(1_430));
        assert_eq!(found(&auto, &[default(2, false, 100), default(3, false, 50)]), eth1(8_931));
        assert_eq!(found(&auto, &[default(2, false, 100), default(3, true, 50)]), eth0(1_430));
        assert_eq!(found(&auto, &[default(3, true, 50)]), eth1(8_931));
        assert_eq!(found(&auto, &[default(3, true, 0), default(3, true, 0)]), eth1(8_931));
        let to_somewhere = Route { to: "10.0.0.0".parse().ok(), prefix: 8, ..default(3, false, 0) };
        let other_table = Route { table: 100, ..default(3, false, 0) };
        assert_eq!(found(&auto, &[to_somewhere, other_table, default(2, false, 100)]), eth0(1_430));
        let named = with(|c| c.uplink = "eth1".parse().ok());
        assert_eq!(found(&named, &[default(2, false, 0)]), eth1(8_931));
        assert_eq!(found(&named, &[]), eth1(8_931));
        let off = with(|c| c.tunnel = Tunnel::Off);
        assert_eq!(found(&off, &[default(2, false, 0)]), eth0(1_500));
        let small = with(|c| c.mtu = Some(1_400));
        assert_eq!(found(&small, &[default(2, false, 0)]), eth0(1_400));
    }

    #[test]
    fn a_tunnel_leaves_with_an_address_that_stays() {
        let on = |index, addr: &str, flags| Address { index, addr: addr.parse().expect("one"), prefix: 24, flags };
        let addresses = [
            on(3, "192.0.2.9", 0),
            on(2, "169.254.0.9", 0),
            on(2, "192.0.2.1", 0x80),
            on(2, "192.0.2.2", 0x01),
            on(2, "fe80::1", 0x80),
            on(2, "2001:db8::7", 0x01),
            on(2, "2001:db8::8", 0x40),
            on(2, "2001:db8::1", 0x80),
        ];
        let (v4, v6) = own_addresses(IfIndex(2), &addresses);
        assert_eq!((v4, v6), ("192.0.2.1".parse().ok(), "2001:db8::1".parse().ok()));
        assert_eq!(own_addresses(IfIndex(9), &addresses), (None, None));
    }

    #[test]
    fn a_missing_uplink_says_what_to_set() {
        let told =
            |config: &Config, routes: &[Route]| resolve(config, &links(), routes).expect_err("no uplink").to_string();
        assert_eq!(
            told(&Config::default(), &[]),
            "no default route, hence no uplink: set `uplink` to the device towards the network (here: eth0, eth1)"
        );
        assert_eq!(
            told(&Config::default(), &[default(2, false, 0), default(3, false, 0)]),
            "default routes of the same metric leave by eth0 and eth1: set `uplink` to the one that slots shall use"
        );
        assert_eq!(
            told(&Config::default(), &[default(0, false, 0)]),
            "the default route has several next hops: set `uplink` to the device that slots shall use (here: eth0, eth1)"
        );
        assert_eq!(
            told(&with(|c| c.uplink = "eth9".parse().ok()), &[]),
            "uplink eth9: no such device here; there are eth0, eth1"
        );
        let none = resolve(&Config::default(), &links()[..1], &[]).expect_err("no uplink");
        assert_eq!(none, UnderlayError::NoDefaultRoute("none but lo".into()));
        let many: Vec<Link> = (1..20).map(|n| link(n, &format!("e{n}"), 1_500)).collect();
        assert_eq!(names(&many), "e1, e2, e3, e4, e5, e6, e7, e8, …");
    }

    #[test]
    fn an_mtu_that_does_not_fit_says_which_would() {
        let found = |config: &Config, mtu| resolve(config, &[link(2, "eth0", mtu)], &[default(2, false, 0)]);
        let large = with(|c| c.mtu = Some(1_450));
        assert_eq!(
            found(&large, 1_500).expect_err("70 bytes are the tunnel's").to_string(),
            "mtu = 1450 does not fit the uplink eth0: of its 1500 bytes a tunnel takes 70; set `mtu` to 1430 or less, \
             or to \"auto\""
        );
        let ipv6 = with(|c| c.guest.ip6 = "fd00::2/64".parse().ok());
        assert_eq!(
            found(&ipv6, 1_349).expect_err("one byte short").to_string(),
            "the uplink eth0 has an MTU of 1349, which leaves 1279 inside a slot, and 1280 are needed for IPv6: raise \
             it with 'ip link set eth0 mtu 1350'"
        );
        assert_eq!(found(&ipv6, 1_350).map(|u| u.mtu), Ok(1_280));
        assert!(found(&Config::default(), 645).is_err());
        let tiny = found(&Config::default(), 60).expect_err("less than the tunnel's").to_string();
        assert!(tiny.contains("leaves 0 inside") && tiny.ends_with("mtu 646'"), "{tiny}");
        assert_eq!(found(&Config::default(), 65_591).map(|u| u.mtu), Ok(65_521));
        assert_eq!(found(&Config::default(), 100_000).map(|u| u.mtu), Ok(65_521));
    }
}
