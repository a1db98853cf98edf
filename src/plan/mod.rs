//! What a slot should be, what it is, and what to do about the difference; pure: values in, values out, no kernel.

pub mod blueprint;
pub mod diff;
pub mod inspect;
pub mod part;
mod text;

pub use blueprint::{Blueprint, SlotSpec};
pub use diff::{Plan, diff};
pub use inspect::{Found, Observed};
pub use part::{Part, Parts, Phase};
