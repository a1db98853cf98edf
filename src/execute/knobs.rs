//! The host's knobs that a pass turns and turns back: remembers each old value on disk before it changes it, so that
//! the next start repairs what a kill left turned. Decides nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::fault;

/// A knob, the value a pass wants, and what it costs to go without.
struct Knob {
    path: &'static str,
    wanted: &'static str,
    /// Only raise or lower: `wanted` is taken only where it is smaller than the value there.
    lower_only: bool,
    cost: &'static str,
}

/// Whether a new namespace gets the fallback device of every tunnel module.
pub const FALLBACK_TUNNELS: &str = "/proc/sys/net/core/fb_tunnels_only_for_init_net";

/// Whether a new namespace takes its sysctls from the one its maker stands in.
pub const INHERIT: &str = "/proc/sys/net/core/devconf_inherit_init_net";

const KNOBS: [Knob; 4] = [
    Knob {
        path: "/sys/kernel/rcu_expedited",
        wanted: "1",
        lower_only: false,
        cost: "every wait for a grace period takes 10-30 ms instead of 0.1",
    },
    Knob {
        path: "/proc/sys/kernel/printk",
        wanted: "4",
        lower_only: true,
        cost: "the bridge's 12 lines per slot go to the console under RTNL",
    },
    Knob {
        path: INHERIT,
        wanted: "3",
        lower_only: false,
        cost: "each slot's sysctls are written one by one, which costs more with every namespace there is",
    },
    Knob {
        path: FALLBACK_TUNNELS,
        wanted: "1",
        lower_only: false,
        cost: "each slot gets the fallback device of every tunnel module that is loaded",
    },
];

/// The knobs while they are turned; turns them back when dropped.
#[derive(Debug)]
pub struct Knobs {
    record: PathBuf,
}

/// What could not be turned, and what that costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfReach {
    /// The knob's file.
    pub path: &'static str,
    /// Why.
    pub error: String,
    /// What that costs.
    pub cost: &'static str,
}

/// A knob as it stands.
#[derive(Debug)]
pub struct Seen {
    /// The knob's file.
    pub path: &'static str,
    /// Its value; the error where it cannot be read, or not be written.
    pub value: io::Result<String>,
    /// Whether a pass would leave it as it is.
    pub fits: bool,
    /// The value that a pass wants.
    pub wanted: &'static str,
    /// What it costs to go without.
    pub cost: &'static str,
}

/// Looks at every knob and turns none.
#[must_use]
pub fn look() -> Vec<Seen> {
    let see = |knob: &Knob| {
        let value = fs::read_to_string(knob.path);
        let fits = value.as_ref().is_ok_and(|value| !wants(knob, value));
        // Opened for writing and written nothing: that alone tells a read-only mount from a writable one.
        let writable = || fs::OpenOptions::new().write(true).open(knob.path);
        let value = value.and_then(|value| if fits { Ok(value) } else { writable().map(|_| value) });
        Seen { path: knob.path, value, fits, wanted: knob.wanted, cost: knob.cost }
    };
    KNOBS.iter().map(see).collect()
}

impl Knobs {
    /// Turns back what an earlier pass, killed, left turned.
    pub fn repair(run_dir: &Path) {
        let record = run_dir.join("host-knobs");
        // Killed before it had its name, and so before anything was turned.
        if fs::remove_file(fresh(&record)).is_ok() {
            fault::point();
        }
        restore(&record);
    }

    /// Turns what can be turned.
    ///
    /// # Errors
    /// Where the record of the old values cannot be written: then nothing has been turned.
    pub fn turn(run_dir: &Path) -> io::Result<(Self, Vec<OutOfReach>)> {
        let record = run_dir.join("host-knobs");
        let mut old = String::new();
        let mut out_of_reach = Vec::new();
        let mut turn = Vec::new();
        for knob in &KNOBS {
            match fs::read_to_string(knob.path) {
                Ok(value) if wants(knob, &value) => {
                    old += &format!("{}={}\n", knob.path, value.trim());
                    turn.push(knob);
                }
                Ok(_) => {}
                Err(e) => out_of_reach.push(OutOfReach { path: knob.path, error: e.to_string(), cost: knob.cost }),
            }
        }
        // Whole or not at all: a kill in between must not leave half a record of values already changed.
        let fresh = fresh(&record);
        fs::write(&fresh, old)?;
        fault::point();
        fs::rename(&fresh, &record)?;
        fault::point();
        for knob in turn {
            if let Err(e) = fs::write(knob.path, knob.wanted) {
                out_of_reach.push(OutOfReach { path: knob.path, error: e.to_string(), cost: knob.cost });
            }
            fault::point();
        }
        Ok((Self { record }, out_of_reach))
    }
}

impl Drop for Knobs {
    fn drop(&mut self) {
        restore(&self.record);
    }
}

/// The name under which the record is written.
fn fresh(record: &Path) -> PathBuf {
    record.with_extension("new")
}

fn wants(knob: &Knob, value: &str) -> bool {
    let first = value.split_ascii_whitespace().next().unwrap_or_default();
    if knob.lower_only {
        first.parse::<u32>().is_ok_and(|v| knob.wanted.parse().is_ok_and(|wanted: u32| wanted < v))
    } else {
        first != knob.wanted
    }
}

/// Writes the recorded values back; only knobs of ours, whatever the file says.
fn restore(record: &Path) {
    let Ok(old) = fs::read_to_string(record) else { return };
    for (path, value) in old.lines().filter_map(|line| line.split_once('=')) {
        if KNOBS.iter().any(|k| k.path == path)
            && let Err(e) = fs::write(path, value)
        {
            log::warn!("{path} could not be set back to '{value}': {e}; set it by hand");
        }
        fault::point();
    }
    if let Err(e) = fs::remove_file(record) {
        log::warn!("{} could not be removed: {e}", record.display());
    }
    fault::point();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_that_is_quiet_already_is_left_so() {
        let printk = KNOBS.iter().find(|k| k.lower_only).expect("one of them");
        assert!(wants(printk, "7\t4\t1\t7\n"));
        assert!(!wants(printk, "4\t4\t1\t7\n"));
        assert!(!wants(printk, "1\t4\t1\t7\n"));
        assert!(!wants(printk, "nonsense"));
    }
}
