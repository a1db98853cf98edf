//! What the programs count per slot and processor, and the names of the reasons for which they drop; no arithmetic.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for drop reasons in a [`CounterRecord`]: a power of two, so that a program masks an index instead of checking.
pub const DROP_REASONS: usize = 32;

/// Packets and bytes of one slot on one processor since the maps were made.
///
/// Bytes are those of the frame as the host end's device sees it; a segmented packet that the device would cut later
/// counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CounterRecord {
    /// Packets from the slot that passed.
    pub out_packets: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Packets to the slot that passed.
    pub in_packets: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// DHCP requests answered.
    pub dhcp_replies: u64,
    /// Packets dropped, by [`DropReason`].
    pub drops: [u64; DROP_REASONS],
}

const _: () = assert!(size_of::<CounterRecord>() == 40 + 8 * DROP_REASONS);

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// Why a packet was dropped. The numbers are indexes into [`CounterRecord::drops`] and part of its layout.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $variant = $number,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The lower-case word that people and JSON see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// The slot is not leased.
    NotLeased = 0, "not-leased";
    /// Cut short, or a length or version that contradicts itself.
    Malformed = 1, "malformed";
    /// A VLAN tag, LLC/SNAP, or a protocol that is none of ARP, IPv4 and configured IPv6.
    Protocol = 2, "protocol";
    /// An Ethernet source that is not the guest's.
    SourceMac = 3, "source-mac";
    /// An IPv4 or IPv6 source that is not the guest's.
    SourceAddress = 4, "source-address";
    /// ARP in another's name, or not about IPv4 on Ethernet.
    Arp = 5, "arp";
    /// Neighbour discovery in another's name.
    Neighbour = 6, "neighbour";
    /// The guest asks who has its own address: nobody else may answer.
    OwnAddress = 7, "own-address";
    /// A guest that plays router: router advertisement, redirect, or listener query.
    Router = 8, "router";
    /// A guest that plays DHCP server.
    DhcpServer = 9, "dhcp-server";
    /// A DHCP message that asks for nothing we answer (DECLINE, RELEASE, unknown kinds).
    DhcpUnanswered = 10, "dhcp-unanswered";
    /// A routing header, or more extension headers than are walked.
    Extension = 11, "extension";
    /// A destination that is not the slot's.
    DestinationAddress = 12, "destination-address";
    /// Past the tunnel in a bound slot, or through it in one that is not bound.
    WrongPath = 13, "wrong-path";
    /// Out of the tunnel for no bound slot, or from another remote than the bound one.
    NoTenant = 14, "no-tenant";
    /// A Geneve header of another version, with critical options, or not carrying Ethernet.
    Geneve = 15, "geneve";
    /// The binding names no address of the packet's family.
    NoTenantAddress = 16, "no-tenant-address";
    /// The kernel refused to change the packet: no memory, or a shape it cannot change.
    Kernel = 17, "kernel";
}

const _: () = assert!(DropReason::ALL.len() <= DROP_REASONS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_without_gaps_and_named_apart() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(usize::from(*reason as u8), i);
            assert!(DropReason::ALL[..i].iter().all(|r| r.name() != reason.name()));
        }
    }
}
