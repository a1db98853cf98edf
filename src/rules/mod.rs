//! Rules that users write once and every slot gets: compiled by the real nft in a scratch namespace, kept as the kernel's
//! own messages, replayed as one transaction. `normal`, `expression`, `image` and `warn` are pure; the rest runs programs
//! and sockets. Which slot lacks its rules is `plan`'s to say.

pub mod compile;
mod dump;
mod error;
mod expression;
pub mod image;
pub mod load;
mod normal;
mod object;
mod place;
pub mod replay;
mod scratch;
pub mod source;
#[cfg(test)]
mod tests;
mod used;
pub mod warn;

pub use dump::{own_tables, reset};
pub use error::RulesError;
pub use image::{Image, Purpose};
pub use load::load;
pub use normal::Ruleset;
pub use object::Object;
pub use replay::{Replay, ReplayError, Standing};
