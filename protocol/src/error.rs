//! The refusals a client can get, by number; what each means is the daemon's affair, what to do is in its detail.

use crate::bounded::Text;
use crate::codec::{Decode, Encode, numbered};
use crate::limits::DETAIL_BYTES_MAX;

/// Kind of the frame that carries a [`Refusal`] in place of a reply.
pub const ERROR_KIND: u16 = 0x8000;

/// Why a request was refused. A new number comes only with a new protocol version.
///
/// Numbers leave a gap after each subject: the frame, its arguments, the lease, the pool, quotas, the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorCode {
    /// The bytes are no frame, or its body is not what its kind says.
    BadFrame = 1,
    /// The daemon does not speak the header's version; the refusal says which it speaks.
    UnsupportedVersion = 2,
    /// No request has that kind in that version.
    UnknownKind = 3,
    /// The frame is longer than any request.
    TooLarge = 4,

    /// An argument is outside its bounds; the detail names it.
    BadArgument = 20,
    /// The pool has no slot of that number.
    NoSuchSlot = 21,
    /// The virtual network identifier is not 1 to 16,777,215.
    BadVni = 22,
    /// The remote's address family is not the underlay's.
    RemoteFamily = 23,
    /// Another slot is bound to that tenant address in that virtual network.
    AddressInUse = 24,

    /// The slot went on to a later generation: this lease is over.
    StaleGeneration = 40,
    /// The lease is another user's.
    NotOwner = 41,
    /// The slot is not leased.
    SlotNotLeased = 42,
    /// The slot is set aside until it is built anew.
    Quarantined = 43,
    /// The tap's fd was asked for, and somebody holds the tap open.
    TapBusy = 44,

    /// No slot is free, and the request was not to wait, or the pool does not let it.
    PoolEmpty = 60,
    /// No slot came free within the wait.
    TimedOut = 61,

    /// The user holds as many leases as it may.
    QuotaLeases = 80,
    /// The user, or all together, hold as many connections as they may.
    QuotaConnections = 81,
    /// The user has as many requests waiting as it may.
    QuotaWaiters = 82,

    /// The daemon is going down; leases stay.
    ShuttingDown = 100,
    /// The daemon failed at something that is not the client's doing; the detail has the kernel's words.
    Internal = 101,
}

impl ErrorCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::BadFrame,
        Self::UnsupportedVersion,
        Self::UnknownKind,
        Self::TooLarge,
        Self::BadArgument,
        Self::NoSuchSlot,
        Self::BadVni,
        Self::RemoteFamily,
        Self::AddressInUse,
        Self::StaleGeneration,
        Self::NotOwner,
        Self::SlotNotLeased,
        Self::Quarantined,
        Self::TapBusy,
        Self::PoolEmpty,
        Self::TimedOut,
        Self::QuotaLeases,
        Self::QuotaConnections,
        Self::QuotaWaiters,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code of that number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The word that people and JSON see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadFrame => "bad-frame",
            Self::UnsupportedVersion => "unsupported-version",
            Self::UnknownKind => "unknown-kind",
            Self::TooLarge => "too-large",
            Self::BadArgument => "bad-argument",
            Self::NoSuchSlot => "no-such-slot",
            Self::BadVni => "bad-vni",
            Self::RemoteFamily => "remote-family",
            Self::AddressInUse => "address-in-use",
            Self::StaleGeneration => "stale-generation",
            Self::NotOwner => "not-owner",
            Self::SlotNotLeased => "slot-not-leased",
            Self::Quarantined => "quarantined",
            Self::TapBusy => "tap-busy",
            Self::PoolEmpty => "pool-empty",
            Self::TimedOut => "timed-out",
            Self::QuotaLeases => "quota-leases",
            Self::QuotaConnections => "quota-connections",
            Self::QuotaWaiters => "quota-waiters",
            Self::ShuttingDown => "shutting-down",
            Self::Internal => "internal",
        }
    }

    /// Whether the daemon closes the connection after it: the peer speaks something else, or is not to be served.
    #[must_use]
    pub const fn closes(self) -> bool {
        matches!(self, Self::BadFrame | Self::TooLarge | Self::QuotaConnections | Self::ShuttingDown)
    }
}

numbered!(ErrorCode: u16);

/// The body of an error frame. Its layout is the same in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Why.
    pub code: ErrorCode,
    /// Oldest version that the daemon speaks.
    pub version_min: u16,
    /// Newest version that the daemon speaks.
    pub version_max: u16,
    /// What was wrong and what to do, for people.
    pub detail: Text<DETAIL_BYTES_MAX>,
}

impl Refusal {
    /// That refusal by this crate's versions; the detail is cut to its bound.
    #[must_use]
    pub fn new(code: ErrorCode, detail: core::fmt::Arguments<'_>) -> Self {
        let mut text = Text::default();
        // Only a Display that itself gives up can fail here; what it wrote until then is still worth sending.
        let _ = core::fmt::Write::write_fmt(&mut text, detail);
        Self { code, version_min: crate::VERSION_MIN, version_max: crate::VERSION_MAX, detail: text }
    }
}
