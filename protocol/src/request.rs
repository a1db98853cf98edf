//! What a client may ask, and the one way from a datagram to a request; judges only what needs no pool to judge.

use core::net::{IpAddr, Ipv4Addr};

use crate::bounded::Text;
pub use crate::call::Call;
use crate::codec::{BodyError, Decode, Encode, decode};
use crate::error::{ErrorCode, Refusal};
use crate::frame::{self, FrameError, Header};
use crate::kind::Kind;
use crate::limits::{LEASE_COUNT_MAX, NAME_BYTES_MAX, REQUEST_BYTES_MAX, VNI_MAX, WAIT_MS_MAX};
use crate::types::{Binding, Ip, LeaseId, Policy, Tag};
use crate::{VERSION_MAX, VERSION_MIN, choose_version, reply};

/// Says which versions the client speaks. Not needed before other requests; its layout is the same in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Oldest version that the client speaks.
    pub version_min: u16,
    /// Newest version that the client speaks.
    pub version_max: u16,
    /// Who the client is, for the daemon's log.
    pub client: Text<NAME_BYTES_MAX>,
}

/// Takes `count` slots, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// 1 to [`LEASE_COUNT_MAX`].
    pub count: u32,
    /// How long the request may stand in the queue of an empty pool, milliseconds; 0 = not at all. At most
    /// [`WAIT_MS_MAX`]; the daemon cuts it to its own bound.
    pub wait_ms: u32,
    /// The owner's word for the lease; no control characters.
    pub tag: Tag,
    /// When the lease ends without a release.
    pub policy: Policy,
    /// Whether the reply is to carry each slot's namespace.
    pub want_netns_fd: bool,
    /// Whether the reply is to carry each slot's tap, opened afresh.
    pub want_tap_fd: bool,
    /// Whether the slot is used without a guest: what comes for its address goes to programs in the namespace.
    pub own_stack: bool,
}

/// Gives a leased slot its tenant network, in place of the one it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bind {
    /// Which lease.
    pub lease: LeaseId,
    /// Which network.
    pub binding: Binding,
}

/// Takes the tenant network away; the slot's packets go to the uplink again. Nothing happens where none is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Unbind {
    /// Which lease.
    pub lease: LeaseId,
}

/// Gives a slot back. The reply says that the lease is over, not that the slot is clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Release {
    /// Which lease.
    pub lease: LeaseId,
}

/// One slot's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Get {
    /// Which slot.
    pub slot: u32,
}

/// All slots' records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct List;

/// Counts over the pool and the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Status;

/// Subscribes this connection to the pool's state changes, until it is closed. Asked again, it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Watch;

macro_rules! calls {
    ($($kind:ident -> $reply:ty),+ $(,)?) => {
        $(impl Call for $kind {
            const KIND: Kind = Kind::$kind;
            type Reply = $reply;
        })+

        /// Any request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Request {
            $(#[doc = concat!("See [`", stringify!($kind), "`].")] $kind($kind)),+
        }

        impl Request {
            /// Its number.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind),+
                }
            }

            fn decode(kind: Kind, body: &[u8]) -> Result<Self, BodyError> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(decode(body)?)),+
                })
            }
        }
    };
}

calls! {
    Hello -> reply::Hello,
    Lease -> reply::Lease,
    Bind -> (),
    Unbind -> (),
    Release -> (),
    Get -> reply::Get,
    List -> reply::List,
    Status -> reply::Status,
    Watch -> (),
}

/// Why a datagram is no request that any pool could serve. Its text is a refusal's detail: it says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than any request.
    #[error("the frame is {0} bytes long or longer, a request at most {REQUEST_BYTES_MAX}: send one per datagram")]
    TooLarge(usize),
    /// Not a frame.
    #[error("{0}; see PROTOCOL.md")]
    Frame(#[from] FrameError),
    /// The header's version is not spoken.
    #[error("version {0} is not spoken here: use one from {VERSION_MIN} to {VERSION_MAX}")]
    Version(u16),
    /// The ranges of versions do not meet.
    #[error("the client speaks versions {0} to {1}, the daemon {VERSION_MIN} to {VERSION_MAX}: update the older one")]
    VersionRange(u16, u16),
    /// No request has that kind.
    #[error("no request has kind {0:#06x}; see PROTOCOL.md")]
    Kind(u16),
    /// The body is not what the kind says.
    #[error("{}: {error}; see PROTOCOL.md", kind.name())]
    Body {
        /// What it was to be.
        kind: Kind,
        /// Why it is not.
        error: BodyError,
    },
    /// Too many slots, or none.
    #[error("count {0} is not 1 to {LEASE_COUNT_MAX}: ask several times for more slots")]
    Count(u32),
    /// Too long a wait.
    #[error("wait_ms {0} is more than {WAIT_MS_MAX}: ask again when it ends")]
    Wait(u32),
    /// People see tags on terminals, where control characters are commands.
    #[error("the tag has a control character: use printable text")]
    Tag,
    /// Not 24 bits, or 0.
    #[error("VNI {0} is not 1 to {VNI_MAX}")]
    Vni(u32),
    /// Nothing to recognise the guest by.
    #[error("no tenant address: give the guest's IPv4 or IPv6 address in the tenant's network, or both")]
    NoTenantAddress,
    /// An address that no single host has.
    #[error("the {0} {1} is no unicast address")]
    NotUnicast(&'static str, IpAddr),
}

impl RequestError {
    /// The number it is refused with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::Frame(_) | Self::Body { .. } => ErrorCode::BadFrame,
            Self::Version(_) | Self::VersionRange(..) => ErrorCode::UnsupportedVersion,
            Self::Kind(_) => ErrorCode::UnknownKind,
            Self::Vni(_) => ErrorCode::BadVni,
            Self::Count(_) | Self::Wait(_) | Self::Tag | Self::NoTenantAddress | Self::NotUnicast(..) => {
                ErrorCode::BadArgument
            }
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::new(error.code(), format_args!("{error}"))
    }
}

impl Request {
    /// The request in that datagram, every bound checked that needs no pool; allocates nothing.
    ///
    /// # Errors
    /// What to refuse it with, under which id and version.
    pub fn read(datagram: &[u8]) -> Result<(Header, Self), (Header, RequestError)> {
        // A frame that cannot be read has no id: the answer goes out under 0, which no client uses.
        let nobody = Header { version: VERSION_MAX, kind: 0, id: 0 };
        if datagram.len() > REQUEST_BYTES_MAX {
            return Err((nobody, RequestError::TooLarge(datagram.len())));
        }
        let (header, body) = frame::split(datagram).map_err(|e| (nobody, e.into()))?;
        Self::judge(header, body).map(|request| (header, request)).map_err(|error| (header.answerable(), error))
    }

    fn judge(header: Header, body: &[u8]) -> Result<Self, RequestError> {
        let kind = Kind::of_request(header.kind);
        // Hello's layout never changes, so that any two versions can find out about each other.
        if kind != Some(Kind::Hello) && !header.is_spoken() {
            return Err(RequestError::Version(header.version));
        }
        let kind = kind.ok_or(RequestError::Kind(header.kind))?;
        let request = Self::decode(kind, body).map_err(|error| RequestError::Body { kind, error })?;
        request.check()?;
        Ok(request)
    }

    /// Whether the arguments keep the bounds that hold for every pool.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), RequestError> {
        match self {
            Self::Hello(hello) => hello.check(),
            Self::Lease(lease) => lease.check(),
            Self::Bind(bind) => bind.binding.check(),
            Self::Unbind(_) | Self::Release(_) | Self::Get(_) | Self::List(_) | Self::Status(_) | Self::Watch(_) => {
                Ok(())
            }
        }
    }
}

impl Hello {
    fn check(&self) -> Result<(), RequestError> {
        let Self { version_min, version_max, .. } = *self;
        choose_version(version_min, version_max).map(|_| ()).ok_or(RequestError::VersionRange(version_min, version_max))
    }
}

impl Lease {
    fn check(&self) -> Result<(), RequestError> {
        if !usize::try_from(self.count).is_ok_and(|count| (1..=LEASE_COUNT_MAX).contains(&count)) {
            return Err(RequestError::Count(self.count));
        }
        if self.wait_ms > WAIT_MS_MAX {
            return Err(RequestError::Wait(self.wait_ms));
        }
        if self.tag.chars().any(char::is_control) {
            return Err(RequestError::Tag);
        }
        Ok(())
    }
}

impl Binding {
    fn check(&self) -> Result<(), RequestError> {
        if self.vni == 0 || self.vni > VNI_MAX {
            return Err(RequestError::Vni(self.vni));
        }
        if self.tenant_v4.is_none() && self.tenant_v6.is_none() {
            return Err(RequestError::NoTenantAddress);
        }
        let unicast = |what, addr: Ip| {
            let addr = IpAddr::from(addr);
            let broadcast = addr == IpAddr::V4(Ipv4Addr::BROADCAST);
            let no_host = addr.is_unspecified() || addr.is_multicast() || broadcast;
            if no_host { Err(RequestError::NotUnicast(what, addr)) } else { Ok(()) }
        };
        unicast("remote", self.remote)?;
        self.tenant_v4.map_or(Ok(()), |addr| unicast("tenant address", Ip::V4(addr)))?;
        self.tenant_v6.map_or(Ok(()), |addr| unicast("tenant address", Ip::V6(addr)))
    }
}
