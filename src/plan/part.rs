//! The parts of a slot, in the order in which they can be made, and what each needs before it; no I/O.

use std::fmt;

/// One thing that a slot has or lacks. Each is one kernel act, so a pass that was stopped anywhere leaves a set of
/// them, and the next pass makes the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Part {
    /// The network namespace, kept in the vault.
    Namespace,
    /// `br0`, down.
    Bridge,
    /// `up0` and the host end, both down.
    VethPair,
    /// The persistent tap, held by nobody.
    Tap,
    /// The tap on the bridge, with its MAC and MTU.
    TapOnBridge,
    /// The guest's gateway address on the bridge.
    GatewayAddress,
    /// The slot's own address on `up0`.
    SlotAddress,
    /// Its rules: netslot's tables, with the mark of the configured ones.
    Rules,
    /// The tunnel device, down.
    Tunnel,
    /// What sends marked packets to the tunnel's table.
    TunnelRule,
    /// The same for IPv6.
    TunnelRule6,
    /// The program on the tap, the one that is to run.
    TapProgram,
    /// Loopback up.
    LoopbackUp,
    /// Bridge up.
    BridgeUp,
    /// Tap up (no carrier until a VMM opens it).
    TapUp,
    /// `up0` up.
    UplinkUp,
    /// The guest's IPv6 gateway address on the bridge.
    GatewayAddress6,
    /// The slot's own IPv6 address on `up0`.
    SlotAddress6,
    /// Default route to the next hop over `up0`.
    DefaultRoute,
    /// IPv6 default route.
    DefaultRoute6,
    /// The next hop's MAC: the host end's.
    NextHop,
    /// The IPv6 next hop's MAC.
    NextHop6,
    /// The guest's MAC.
    GuestNeighbour,
    /// The guest's MAC for its IPv6 address.
    GuestNeighbour6,
    /// The tunnel device up.
    TunnelUp,
    /// Default route of the tunnel's table.
    TunnelRoute,
    /// The same for IPv6.
    TunnelRoute6,
    /// The next hop's MAC on the tunnel device.
    TunnelNextHop,
    /// The IPv6 next hop's MAC on the tunnel device.
    TunnelNextHop6,
    /// IPv6 off on the host end, where the pool has no IPv6.
    HostEndQuiet,
    /// The host end in the blocks that carry the host ends' programs.
    HostEndBlocks,
    /// The host end up, and forwarding what it receives where packets pass root's stack.
    HostEndUp,
    /// Root's route to the slot's address.
    HostRoute,
    /// Root's route to the slot's IPv6 address.
    HostRoute6,
    /// Root's permanent neighbour for the slot's address.
    HostNeighbour,
    /// Root's permanent neighbour for the slot's IPv6 address.
    HostNeighbour6,
}

/// When a part is made. Devices are made down and raised in a pass of their own: raised as they are made, each slot
/// costs more than the one before it (linkwatch walks the backlog of all earlier ones under RTNL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Namespaces and devices, slot by slot, on several threads.
    Make,
    /// Devices up inside the slots, then what needs them up. The tap's program too: what the kernel keeps of all taps'
    /// programs in one list (`bpf::attach::tap`) is then not scattered among what devices take, and searched in less
    /// than half the time.
    Raise,
    /// The host ends: quiet, raised as one group, then routes and neighbours.
    Host,
}

impl Part {
    /// All parts, in the order of making.
    pub const ALL: [Self; 36] = [
        Self::Namespace,
        Self::Bridge,
        Self::VethPair,
        Self::Tap,
        Self::TapOnBridge,
        Self::GatewayAddress,
        Self::SlotAddress,
        Self::Rules,
        Self::Tunnel,
        Self::TunnelRule,
        Self::TunnelRule6,
        Self::TapProgram,
        Self::LoopbackUp,
        Self::BridgeUp,
        Self::TapUp,
        Self::UplinkUp,
        Self::GatewayAddress6,
        Self::SlotAddress6,
        Self::DefaultRoute,
        Self::DefaultRoute6,
        Self::NextHop,
        Self::NextHop6,
        Self::GuestNeighbour,
        Self::GuestNeighbour6,
        Self::TunnelUp,
        Self::TunnelRoute,
        Self::TunnelRoute6,
        Self::TunnelNextHop,
        Self::TunnelNextHop6,
        Self::HostEndQuiet,
        Self::HostEndBlocks,
        Self::HostEndUp,
        Self::HostRoute,
        Self::HostRoute6,
        Self::HostNeighbour,
        Self::HostNeighbour6,
    ];

    /// When it is made.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::Namespace
            | Self::Bridge
            | Self::VethPair
            | Self::Tap
            | Self::TapOnBridge
            | Self::GatewayAddress
            | Self::SlotAddress
            | Self::Rules
            | Self::Tunnel
            | Self::TunnelRule
            | Self::TunnelRule6 => Phase::Make,
            Self::TapProgram
            | Self::LoopbackUp
            | Self::BridgeUp
            | Self::TapUp
            | Self::UplinkUp
            | Self::GatewayAddress6
            | Self::SlotAddress6
            | Self::DefaultRoute
            | Self::DefaultRoute6
            | Self::NextHop
            | Self::NextHop6
            | Self::GuestNeighbour
            | Self::GuestNeighbour6
            | Self::TunnelUp
            | Self::TunnelRoute
            | Self::TunnelRoute6
            | Self::TunnelNextHop
            | Self::TunnelNextHop6 => Phase::Raise,
            Self::HostEndQuiet
            | Self::HostEndBlocks
            | Self::HostEndUp
            | Self::HostRoute
            | Self::HostRoute6
            | Self::HostNeighbour
            | Self::HostNeighbour6 => Phase::Host,
        }
    }

    /// What must be there before it.
    #[must_use]
    pub const fn needs(self) -> Parts {
        match self {
            Self::Namespace => Parts::NONE,
            Self::Bridge
            | Self::VethPair
            | Self::Tap
            | Self::LoopbackUp
            | Self::Tunnel
            | Self::TunnelRule
            | Self::TunnelRule6 => Parts::of(&[Self::Namespace]),
            Self::TunnelUp => Parts::of(&[Self::Tunnel]),
            Self::TunnelRoute | Self::TunnelRoute6 | Self::TunnelNextHop | Self::TunnelNextHop6 => {
                Parts::of(&[Self::TunnelUp])
            }
            Self::TapProgram => Parts::of(&[Self::Tap]),
            Self::TapOnBridge => Parts::of(&[Self::Bridge, Self::Tap]),
            Self::GatewayAddress | Self::BridgeUp => Parts::of(&[Self::Bridge]),
            Self::SlotAddress | Self::UplinkUp | Self::HostEndQuiet | Self::HostEndBlocks => {
                Parts::of(&[Self::VethPair])
            }
            // No device is up without its program.
            Self::HostEndUp => Parts::of(&[Self::HostEndBlocks]),
            Self::TapUp => Parts::of(&[Self::TapOnBridge, Self::TapProgram]),
            // Chains may hang on devices: made anew with them.
            Self::Rules => Parts::of(&[Self::VethPair, Self::TapOnBridge]),
            Self::GatewayAddress6 | Self::GuestNeighbour | Self::GuestNeighbour6 => Parts::of(&[Self::BridgeUp]),
            Self::SlotAddress6 | Self::NextHop | Self::NextHop6 => Parts::of(&[Self::UplinkUp]),
            Self::DefaultRoute => Parts::of(&[Self::UplinkUp, Self::SlotAddress]),
            Self::DefaultRoute6 => Parts::of(&[Self::UplinkUp, Self::SlotAddress6]),
            Self::HostRoute | Self::HostRoute6 | Self::HostNeighbour | Self::HostNeighbour6 => {
                Parts::of(&[Self::HostEndUp])
            }
        }
    }

    /// The words that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Bridge => "bridge",
            Self::VethPair => "veth pair",
            Self::Tap => "tap",
            Self::TapOnBridge => "tap on bridge",
            Self::GatewayAddress => "gateway address",
            Self::SlotAddress => "slot address",
            Self::Rules => "rules",
            Self::TapProgram => "program on tap",
            Self::Tunnel => "tunnel",
            Self::TunnelRule => "tunnel rule",
            Self::TunnelRule6 => "tunnel rule (v6)",
            Self::LoopbackUp => "loopback up",
            Self::BridgeUp => "bridge up",
            Self::TapUp => "tap up",
            Self::UplinkUp => "up0 up",
            Self::GatewayAddress6 => "gateway address (v6)",
            Self::SlotAddress6 => "slot address (v6)",
            Self::DefaultRoute => "default route",
            Self::DefaultRoute6 => "default route (v6)",
            Self::NextHop => "next hop",
            Self::NextHop6 => "next hop (v6)",
            Self::GuestNeighbour => "guest neighbour",
            Self::GuestNeighbour6 => "guest neighbour (v6)",
            Self::TunnelUp => "tunnel up",
            Self::TunnelRoute => "tunnel route",
            Self::TunnelRoute6 => "tunnel route (v6)",
            Self::TunnelNextHop => "tunnel next hop",
            Self::TunnelNextHop6 => "tunnel next hop (v6)",
            Self::HostEndQuiet => "host end without IPv6",
            Self::HostEndBlocks => "host end in blocks",
            Self::HostEndUp => "host end up",
            Self::HostRoute => "host route",
            Self::HostRoute6 => "host route (v6)",
            Self::HostNeighbour => "host neighbour",
            Self::HostNeighbour6 => "host neighbour (v6)",
        }
    }
}

/// A set of parts.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parts(u64);

impl Parts {
    /// No part.
    pub const NONE: Self = Self(0);

    /// What may be made under a lease too: programs, put in the place of older ones or of none without a packet that
    /// meets neither. A lease must not keep a slot from an upgrade, and no slot shall be open because it is leased.
    pub const PROGRAMS: Self = Self::of(&[Part::TapProgram, Part::HostEndBlocks]);

    /// Those parts.
    #[must_use]
    pub const fn of(parts: &[Part]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < parts.len() {
            set |= 1 << parts[at] as u64;
            at += 1;
        }
        Self(set)
    }

    /// Whether the part is in it.
    #[must_use]
    pub const fn has(self, part: Part) -> bool {
        self.0 & (1 << part as u64) != 0
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in it.
    #[must_use]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set and that part, where `there`.
    pub fn set(&mut self, part: Part, there: bool) {
        if there {
            self.0 |= 1 << part as u64;
        }
    }

    /// What is here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those whose needs are among `there`.
    #[must_use]
    pub fn with_needs_in(self, there: Self) -> Self {
        let mut set = Self::NONE;
        self.iter().filter(|p| there.has_all(p.needs())).for_each(|p| set.set(p, true));
        set
    }

    /// What is in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of one phase.
    #[must_use]
    pub fn of_phase(self, phase: Phase) -> Self {
        let mut set = Self::NONE;
        self.iter().filter(|p| p.phase() == phase).for_each(|p| set.set(p, true));
        set
    }

    /// The parts, in the order of making.
    pub fn iter(self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(move |p| self.has(*p))
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, part) in self.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{}", part.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_stands_once_and_behind_all_that_it_needs() {
        let mut made = Parts::NONE;
        for (n, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, n);
            assert!(made.has_all(part.needs()), "{part:?} needs {:?}", part.needs().without(made));
            made.set(part, true);
        }
    }

    #[test]
    fn no_part_needs_one_of_a_later_phase() {
        for part in Part::ALL {
            assert!(part.needs().iter().all(|p| p.phase() <= part.phase()), "{part:?}");
        }
    }
}
