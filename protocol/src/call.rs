//! What ties a request to its number and its reply; the requests themselves are elsewhere.

use crate::codec::Body;
use crate::kind::Kind;

/// Ties a request to its number and its reply.
pub trait Call: Body {
    /// The request's number; its reply's is [`Kind::reply`].
    const KIND: Kind;
    /// What answers it, unless a [`Refusal`](crate::error::Refusal) does.
    type Reply: Body;
}
