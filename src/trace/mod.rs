//! A slot's packets as they pass, at every place where they look different: what `netslot trace` shows. It watches, and
//! changes nothing.
//!
//! ```text
//!   select        which frames of the uplink are this slot's, exactly and as a filter for the kernel (pure)
//!   order         frames of several sockets in the order of their times (pure)
//!   headers, dhcp what a frame says, from any bytes (pure)
//!   summary       a frame as a line (pure)
//!   pcapng        frames as a capture file (pure)
//!   watch         the sockets, and the loop that reads them
//! ```
//!
//! # Where the copies are taken
//!
//! A packet socket gets an incoming frame before the tc programs of its device see it, and an outgoing one after they are
//! done: `__netif_receive_skb_core` calls the sockets, then `sch_handle_ingress`; `__dev_queue_xmit` calls
//! `sch_handle_egress`, and the sockets come last, in `dev_queue_xmit_nit` of `xmit_one` (net/core/dev.c, 5.10 to 7.3). So
//! these devices show each stage:
//!
//! | hook | device | out | in |
//! |---|---|---|---|
//! | guest | the tap, in the slot | as the guest sends it, before `guest_in` | as the guest gets it |
//! | slot | `up0`, in the slot | what the slot's routing and rules let pass, before `slot_out` | after `slot_in` |
//! | tunnel | `gnv0`, in the slot (`tunnel = "geneve"` alone) | before the device encapsulates | after it has decapsulated |
//! | uplink | in root | after `slot_out` and `uplink_out`, as the network gets it | before `uplink_in` |
//!
//! `up0` and not the host end, its other half: what `up0` sends is what the host end receives, to the byte, but a frame that
//! `uplink_in` hands over (`bpf_redirect_peer`) comes in by `up0` and never passes the host end.
//!
//! A frame that is missing where the one before it shows was dropped between the two; `netslot show` counts why.

mod dhcp;
mod headers;
pub mod order;
pub mod pcapng;
pub mod select;
pub mod summary;
pub mod watch;

pub use select::Mine;
pub use watch::{Ended, TraceError, Watch};

/// A place where frames are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// The tap.
    Guest,
    /// The slot's end of its veth pair.
    Slot,
    /// The slot's tunnel device, where it has one.
    Tunnel,
    /// The device towards the network.
    Uplink,
}

impl Hook {
    /// All of them, from the guest to the network.
    pub const ALL: [Self; 4] = [Self::Guest, Self::Slot, Self::Tunnel, Self::Uplink];

    /// The word that people and JSON see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Slot => "slot",
            Self::Tunnel => "tunnel",
            Self::Uplink => "uplink",
        }
    }

    /// What stands there, for whoever reads a capture without this program at hand.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Guest => "the tap: out = as the guest sends it, in = as the guest gets it",
            Self::Slot => {
                "up0 in the slot: out = before slot_out rewrites, in = after slot_in or uplink_in has rewritten"
            }
            Self::Tunnel => "gnv0 in the slot: out = before it is encapsulated, in = after it was decapsulated",
            Self::Uplink => "the uplink: out = after all rewriting, in = before any; only what is this slot's",
        }
    }

    /// Which way a frame goes that leaves by the hook's device, or comes in by it.
    #[must_use]
    pub const fn direction(self, leaves_device: bool) -> Direction {
        match (self, leaves_device) {
            (Self::Guest, true) | (Self::Slot | Self::Tunnel | Self::Uplink, false) => Direction::In,
            (Self::Guest, false) | (Self::Slot | Self::Tunnel | Self::Uplink, true) => Direction::Out,
        }
    }
}

/// Which way a frame goes, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the guest.
    Out,
    /// To the guest.
    In,
}

impl Direction {
    /// The word that people and JSON see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// A frame at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Where.
    pub hook: Hook,
    /// Which way.
    pub direction: Direction,
    /// Bytes of the whole frame.
    pub length: usize,
    /// The frame, or its first bytes.
    pub bytes: Vec<u8>,
}
