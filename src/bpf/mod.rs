//! The eBPF programs and their maps: loaded from the committed object, pinned, adopted, and seen as typed views. It
//! knows nothing of leases; what hangs the programs on devices is `attach`.
//!
//! ```text
//!   record        what the programs are told, from the configuration (pure)
//!   pins          bpf_dir: which maps and programs are pinned there, and whether they fit
//!   layout        what becomes of another version's records
//!   maps          the maps that hold state, opened from their pins
//!   load          object + pins → Datapath
//!   told          what the pinned programs were told
//!   look          one slot's records and counters, for whoever only looks
//!   views         ledger and bindings as mapped words, tenants, counters
//!   attach        Datapath → filters on blocks and devices
//! ```

pub mod attach;
mod error;
pub mod layout;
pub mod load;
pub mod look;
pub mod maps;
mod pins;
pub mod record;
pub mod told;
pub mod views;

pub use error::DatapathError;
pub use load::{Datapath, Origin};
pub use look::Look;
pub use maps::Maps;
pub use record::Settings;
pub use views::{Counters, MapCells, MapStore};

/// The programs, in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// tap0 ingress, in the slot.
    GuestIn,
    /// Host end egress.
    SlotIn,
    /// Host end ingress.
    SlotOut,
    /// Uplink ingress.
    UplinkIn,
    /// Uplink egress.
    UplinkOut,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::GuestIn, Self::SlotIn, Self::SlotOut, Self::UplinkIn, Self::UplinkOut];

    /// Its name: in the object, below `bpf_dir`, and in `tc filter show`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GuestIn => "guest_in",
            Self::SlotIn => "slot_in",
            Self::SlotOut => "slot_out",
            Self::UplinkIn => "uplink_in",
            Self::UplinkOut => "uplink_out",
        }
    }
}

/// The names of everything that a pool has pinned below `bpf_dir`.
pub fn pin_names() -> impl Iterator<Item = &'static str> {
    let maps = pins::STATE.iter().chain([&pins::CONFIG]).map(|map| map.name);
    maps.chain(Program::ALL.iter().map(|program| program.name()))
}

/// The object that `ebpf/build.sh` makes.
pub(crate) const OBJECT: &[u8] = include_bytes!("../../ebpf/netslot.bpf.o");

/// Takes the pins of a pool that is gone away.
///
/// # Errors
/// [`DatapathError::Call`].
pub fn remove(dir: &std::path::Path) -> Result<(), DatapathError> {
    pins::remove(dir)
}

/// Tells one object from another: FNV-1a, 64 bits. It guards against a forgotten reload, not against forgery: who can
/// write below `bpf_dir` is root.
#[must_use]
pub fn object_id() -> u64 {
    OBJECT.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
