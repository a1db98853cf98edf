//! Rules that users write once and every slot gets: compiled by the real nft in a scratch namespace, kept as the kernel's
//! own messages, replayed as one transaction. `normal`, `expression`, `image` and `warn` are pure; the rest runs programs
//! and sockets. Which slot lacks its rules is `plan`'s to say.

pub mod compile;
mod error;
mod expression;
pub mod image;
pub mod load;
mod normal;
pub mod replay;
mod scratch;
pub mod source;
pub mod warn;

pub use error::RulesError;
pub use image::{Image, Purpose};
pub use load::load;
pub use normal::{Object, Ruleset};
pub use replay::{Replay, ReplayError, own_tables};
