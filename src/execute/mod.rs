//! Carries plans out: the boot pass, the repair of single slots, and taking all down. Drives the kernel through
//! `netlink` and `sys`; what is to be done is `plan`'s to say.

mod apply;
mod destroy;
mod error;
mod host;
pub mod knobs;
mod leases;
mod make;
mod messages;
mod observe;
mod parallel;
mod pass;
mod programs;
mod progress;
mod reference;
mod rules;
mod strip;
mod template;

pub use apply::{Applied, apply};
pub use destroy::{Destroyed, destroy};
pub use error::PassError;
pub use knobs::OutOfReach;
pub use leases::{Hidden, leased, must_be_known};
pub use parallel::{Halt, for_each};
pub use pass::{Broken, Orders, Standing, Summary, dry_run, rebuild, up};
pub use programs::standing_blueprint;
pub use progress::{Now, PhaseTime, Progress};
pub use reference::{Reference, blueprint};
pub use rules::Rules;
pub use template::sysctls;
