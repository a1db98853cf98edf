//! The numbers of the messages; a gap after each subject leaves room for its later ones.

/// Set in the kind of a reply: a reply's kind is its request's with this bit.
pub const REPLY: u16 = 0x8000;

/// What a frame is. The numbers are the wire's and are never given to anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Who speaks which versions, and what pool this is.
    Hello = 0x0010,
    /// Take slots.
    Lease = 0x0020,
    /// Give a leased slot its tenant network.
    Bind = 0x0021,
    /// Take the tenant network away again.
    Unbind = 0x0022,
    /// Give a slot back.
    Release = 0x0023,
    /// One slot's record.
    Get = 0x0030,
    /// All slots' records, as a sealed memfd.
    List = 0x0031,
    /// Counts over the pool and the daemon.
    Status = 0x0032,
    /// Subscribe to state changes.
    Watch = 0x0040,
}

impl Kind {
    /// All request kinds, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Hello,
        Self::Lease,
        Self::Bind,
        Self::Unbind,
        Self::Release,
        Self::Get,
        Self::List,
        Self::Status,
        Self::Watch,
    ];

    /// The number of the request.
    #[must_use]
    pub const fn request(self) -> u16 {
        self as u16
    }

    /// The number of its reply.
    #[must_use]
    pub const fn reply(self) -> u16 {
        self as u16 | REPLY
    }

    /// The request of that number; `None` for replies, events and numbers of no version.
    #[must_use]
    pub fn of_request(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.request() == number)
    }

    /// The word in errors and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Lease => "lease",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
            Self::Release => "release",
            Self::Get => "get",
            Self::List => "list",
            Self::Status => "status",
            Self::Watch => "watch",
        }
    }
}
