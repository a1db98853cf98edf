//! What the programs are told once, before the first packet: base numbers and addresses; no state, no logic but the
//! arithmetic of a slot.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for the DHCP options that are the same in every reply, encoded by user space and padded with zeros (RFC 2132
/// option 0, "pad"): server, mask, router, up to eight name servers, MTU, and static routes.
pub const DHCP_OPTIONS_BYTES: usize = 128;

/// Values of [`ConfigRecord::forward`].
pub mod forward {
    /// Packets pass root's routing and its rules.
    pub const STACK: u8 = 0;
    /// The programs hand packets from device to device; root's rules are not traversed.
    pub const REDIRECT: u8 = 1;
}

/// Values of [`ConfigRecord::tunnel`].
pub mod tunnel {
    /// No tunnel: a binding to a VNI passes nothing.
    pub const OFF: u8 = 0;
    /// The host end's program encapsulates.
    pub const EBPF: u8 = 1;
    /// A kernel device per slot encapsulates with a dummy VNI, and the uplink's programs rewrite the header.
    pub const GENEVE: u8 = 2;
}

/// Mark that `guest_in` puts on the packets of a bound slot in geneve mode: the slot's `ip rule` sends them to the tunnel
/// device. The guest cannot set it. `4e53` reads NS.
pub const TUNNEL_MARK: u32 = 0x4e53;

/// The only element of the `config` map, frozen once written. Addresses are in network byte order, numbers in the
/// machine's; an address of zeros is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConfigRecord {
    /// [`LAYOUT_VERSION`](crate::LAYOUT_VERSION) of the writer.
    pub layout_version: u32,
    /// Slots that the other maps have room for.
    pub slots: u32,
    /// Index of slot 0's host end and tap.
    pub ifindex_base: u32,
    /// Dummy VNI of slot 0.
    pub vni_base: u32,
    /// Digest of the object that these programs came from.
    pub object_id: u64,
    /// Index of the device towards the network; 0 = none.
    pub uplink: u32,
    /// Seconds of a DHCP lease.
    pub dhcp_lease_s: u32,
    /// See [`forward`].
    pub forward: u8,
    /// See [`tunnel`].
    pub tunnel: u8,
    /// UDP port of the tunnel.
    pub geneve_port: u16,
    /// Largest TCP segment over IPv4, from the guest's MTU.
    pub mss_v4: u16,
    /// Largest TCP segment over IPv6.
    pub mss_v6: u16,
    /// The guest's MAC.
    pub guest_mac: [u8; 6],
    /// MAC of the bridge in the slot.
    pub gateway_mac: [u8; 6],
    /// MAC of the tunnel device in the slot (geneve mode).
    pub geneve_mac: [u8; 6],
    /// Zero.
    pub reserved: [u8; 6],
    /// The guest's address in the slot.
    pub guest_v4: [u8; 4],
    /// The bridge's address in the slot.
    pub gateway_v4: [u8; 4],
    /// Address of slot 0; slot `n` has the `n`-th after it.
    pub slot_v4: [u8; 4],
    /// What the network sees instead of slot 0's address; zero = the slot's address itself.
    pub external_v4: [u8; 4],
    /// Outer address of this machine on the tunnel's underlay.
    pub underlay_v4: [u8; 4],
    /// Where the kernel's tunnel devices believe to send (geneve mode).
    pub dummy_remote_v4: [u8; 4],
    /// The guest's IPv6 address; zero = the slots have no IPv6.
    pub guest_v6: [u8; 16],
    /// Link-local address of the bridge.
    pub gateway_link_local: [u8; 16],
    /// IPv6 address of slot 0.
    pub slot_v6: [u8; 16],
    /// What the network sees instead of slot 0's IPv6 address; zero = the slot's address itself.
    pub external_v6: [u8; 16],
    /// Outer IPv6 address of this machine on the tunnel's underlay.
    pub underlay_v6: [u8; 16],
    /// Where the kernel's tunnel devices believe to send over IPv6 (geneve mode).
    pub dummy_remote_v6: [u8; 16],
    /// DHCP options of every acknowledgement, encoded, padded with zeros.
    pub dhcp_options: [u8; DHCP_OPTIONS_BYTES],
}

const _: () = assert!(size_of::<ConfigRecord>() == 312 && align_of::<ConfigRecord>() == 8);

impl ConfigRecord {
    /// The record of no pool at all: every field zero but the layout version.
    #[must_use]
    pub const fn empty() -> Self {
        let mut record: Self = zerocopy::transmute!([0_u64; size_of::<Self>() / 8]);
        record.layout_version = crate::LAYOUT_VERSION;
        record
    }

    /// The slot of a device's index; `None` where it is no slot's.
    #[inline(always)]
    #[must_use]
    pub const fn slot_of_ifindex(&self, ifindex: u32) -> Option<u32> {
        self.bounded(ifindex.wrapping_sub(self.ifindex_base))
    }

    /// The slot of a dummy VNI; `None` where it is no slot's.
    #[inline(always)]
    #[must_use]
    pub const fn slot_of_vni(&self, vni: u32) -> Option<u32> {
        self.bounded(vni.wrapping_sub(self.vni_base))
    }

    /// The slot `n` whose address is the `n`-th after `first`; `None` where there is none.
    #[inline(always)]
    #[must_use]
    pub const fn slot_of_v4(&self, first: [u8; 4], address: [u8; 4]) -> Option<u32> {
        self.bounded(u32::from_be_bytes(address).wrapping_sub(u32::from_be_bytes(first)))
    }

    /// As [`slot_of_v4`](Self::slot_of_v4). Host bits of the range's first address are zero and a slot's number fits
    /// them, so slots differ in the last four bytes alone.
    #[inline(always)]
    #[must_use]
    pub const fn slot_of_v6(&self, first: [u8; 16], address: [u8; 16]) -> Option<u32> {
        let a: [u32; 4] = zerocopy::transmute!(address);
        let b: [u32; 4] = zerocopy::transmute!(first);
        if a[0] != b[0] || a[1] != b[1] || a[2] != b[2] {
            return None;
        }
        self.bounded(u32::from_be(a[3]).wrapping_sub(u32::from_be(b[3])))
    }

    #[inline(always)]
    const fn bounded(&self, slot: u32) -> Option<u32> {
        if slot < self.slots { Some(slot) } else { None }
    }
}

/// The `n`-th address after `first`.
#[inline(always)]
#[must_use]
pub const fn nth_v4(first: [u8; 4], n: u32) -> [u8; 4] {
    u32::from_be_bytes(first).wrapping_add(n).to_be_bytes()
}

/// The `n`-th address after `first`, whose last four bytes have room for `n`.
#[inline(always)]
#[must_use]
pub const fn nth_v6(first: [u8; 16], n: u32) -> [u8; 16] {
    let mut words: [u32; 4] = zerocopy::transmute!(first);
    words[3] = u32::from_be(words[3]).wrapping_add(n).to_be();
    zerocopy::transmute!(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_address_gives_n_back_and_others_are_no_slots() {
        let mut record = ConfigRecord::empty();
        record.slots = 300;
        let v4 = [100, 64, 0, 2];
        let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        for n in [0, 1, 253, 254, 299] {
            assert_eq!(record.slot_of_v4(v4, nth_v4(v4, n)), Some(n));
            assert_eq!(record.slot_of_v6(v6, nth_v6(v6, n)), Some(n));
        }
        assert_eq!(record.slot_of_v4(v4, nth_v4(v4, 300)), None);
        assert_eq!(record.slot_of_v4(v4, [100, 64, 0, 1]), None);
        assert_eq!(record.slot_of_v6(v6, nth_v6(v6, 300)), None);
        let mut other = nth_v6(v6, 1);
        other[3] = 1;
        assert_eq!(record.slot_of_v6(v6, other), None);
    }
}
