//! Measures the daemon from a client's side: round trips of lease and release against an empty echo, and leases per
//! second. Prints one line of JSON; judges nothing.

mod echo;
mod figures;
mod recovery;
mod round_trips;
mod scrub;
mod throughput;

use std::error::Error;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use netslot_protocol::State;
use netslot_protocol::client::Client;

/// How long to wait for released slots to be free again before measuring goes on.
const FREE_WAIT: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
#[command(about = "Measure leases against a running daemon")]
struct Cli {
    /// What `cargo bench` says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One client, one lease at a time, each beside the same exchange with an empty echo
    RoundTrips(RoundTrips),
    /// Many clients at once, as fast as they can
    Throughput(Throughput),
    /// What scrubbing costs those who lease meanwhile, and how many slots it cleans
    Scrub(Scrub),
    /// Daemons killed one after the other, and how long each takes until it answers
    Recovery(Recovery),
    /// The empty echo: what `round-trips` starts by itself
    #[command(hide = true)]
    Echo,
}

#[derive(Debug, Args)]
struct RoundTrips {
    /// The daemon's socket
    socket: PathBuf,
    /// Leases and releases to time
    #[arg(long, default_value_t = 2_000)]
    rounds: usize,
    /// Microseconds between two rounds
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
    /// Receive the slot's namespace with each lease, and a namespace with each echo
    #[arg(long)]
    netns: bool,
    /// Stop early, when this process has ended
    #[arg(long, value_name = "PID")]
    while_runs: Option<u32>,
}

#[derive(Debug, Args)]
struct Throughput {
    /// The daemon's socket
    socket: PathBuf,
    /// Clients, each on a thread and a connection of its own
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Slots to lease in all, and then to release
    #[arg(long, default_value_t = 1_000)]
    leases: usize,
    /// Seconds of lease and release in turn
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

#[derive(Debug, Args)]
struct Scrub {
    /// The daemon's socket
    socket: PathBuf,
    /// The daemon, whose CPU time is told
    #[arg(long)]
    daemon: u32,
    /// Leases to time, each held until the last one is timed
    #[arg(long, default_value_t = 1_000)]
    leases: usize,
    /// Microseconds between two of them
    #[arg(long, default_value_t = 2_000)]
    pause_us: u64,
    /// Slots that another client gives back each second meanwhile
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Seconds of giving back as fast as it goes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Debug, Args)]
struct Recovery {
    /// The socket of the daemons, of which none runs yet
    socket: PathBuf,
    /// The binary
    #[arg(long)]
    netslot: PathBuf,
    /// Its configuration, by which the pool stands
    #[arg(long)]
    config: PathBuf,
    /// Leases to be recovered
    #[arg(long, default_value_t = 1_000)]
    leases: u32,
    /// Starts to time
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let json = match Cli::parse().command {
        Some(Command::RoundTrips(args)) => round_trips::run(&args)?,
        Some(Command::Throughput(args)) => throughput::run(&args)?,
        Some(Command::Scrub(args)) => scrub::run(&args)?,
        Some(Command::Recovery(args)) => recovery::run(&args)?,
        Some(Command::Echo) => return Ok(echo::serve()?),
        // Run by cargo: there is no daemon to measure.
        None => return Ok(writeln!(stdout(), "measured by tests/bench/run.sh")?),
    };
    Ok(writeln!(stdout(), "{json}")?)
}

/// Waits until every slot is free: what is released is leased again only when it has been scrubbed.
fn wait_free(socket: &Path) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(socket)?;
    let began = std::time::Instant::now();
    loop {
        let status = client.status()?;
        if status.count(State::Free) == status.slots {
            return Ok(());
        }
        if began.elapsed() > FREE_WAIT {
            return Err(format!("only {} of {} slots are free", status.count(State::Free), status.slots).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
