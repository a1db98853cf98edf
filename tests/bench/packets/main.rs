//! Measures the packet path: what each program costs per packet, what the way through it costs beside connection tracking's,
//! what hanging the programs costs per slot, and, with a daemon, the first slot beside the last and how long a binding takes
//! to be in force. Prints one JSON object per measurement; judges nothing.
#![allow(
    clippy::duplicate_mod,
    reason = "the tests' two worlds bring the same opener, and are used one after the other"
)]

#[path = "../../datapath_world/mod.rs"]
mod datapath_world;
#[path = "../../common/frames.rs"]
mod frames;
mod paths;
mod programs;
mod served;
#[path = "../../test_run/mod.rs"]
mod test_run;

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde_json::Value;

#[derive(Debug, Parser)]
#[command(about = "Measure the packet path")]
struct Cli {
    /// What `cargo bench` says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Nanoseconds of each program on one packet (BPF_PROG_TEST_RUN)
    Programs {
        /// Runs of each
        #[arg(long, default_value_t = 4_000)]
        runs: usize,
    },
    /// A guest to the network and back: by the programs through the stack and past it, and by masquerading twice
    Paths {
        /// Turns of each way
        #[arg(long, default_value_t = 3)]
        turns: usize,
        /// Seconds of each transfer
        #[arg(long, default_value_t = 3)]
        seconds: u32,
        /// Round trips of each turn
        #[arg(long, default_value_t = 5_000)]
        rounds: usize,
    },
    /// Microseconds to hang the programs on a slot
    Attach {
        /// Slots
        #[arg(long, default_value_t = 50)]
        slots: u32,
    },
    /// Against a daemon, in a world that has a namespace `network`: the first slot beside the last, and binding
    Served {
        /// The daemon's socket
        socket: PathBuf,
        /// Round trips, and bindings
        #[arg(long, default_value_t = 5_000)]
        rounds: usize,
    },
}

fn main() {
    match Cli::parse().command {
        None => println_json(&serde_json::json!({"what": "nothing", "why": "run by tests/bench/run.sh"})),
        Some(Command::Programs { runs }) => programs::measure(runs),
        Some(Command::Paths { turns, seconds, rounds }) => paths::measure(turns, seconds, rounds),
        Some(Command::Attach { slots }) => paths::attach(slots),
        Some(Command::Served { socket, rounds }) => served::measure(&socket, rounds),
    }
}

/// One measurement.
fn println_json(value: &Value) {
    writeln!(stdout().lock(), "{value}").expect("stdout is there");
}

/// The value below which that part of the sorted values lies.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
