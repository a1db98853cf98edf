//! What scrubbing costs others: a lease's round trip while nothing is given back, then the same while another client gives
//! slots back at a steady rate; how far the scrub falls behind at that rate, and which rate it keeps up with.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netslot_protocol::State;
use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::types::LeaseId;
use serde_json::{Value, json};

use crate::figures::Times;
use crate::{Scrub, wait_free};

/// How long a client waits for a slot to be clean again.
const WAIT: Duration = Duration::from_secs(30);
/// Between two looks at how many slots are being cleaned.
const LOOK: Duration = Duration::from_millis(50);
/// `sysconf(_SC_CLK_TCK)` on every Linux that there is: /proc's unit of CPU time.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a client that gives back did.
#[derive(Debug, Default)]
struct Given {
    releases: u32,
    took: Duration,
    /// It did not come to a release when that was due, as no slot was clean.
    late: u32,
}

/// Leases that stand.
struct Held {
    client: Client,
    leases: Vec<LeaseId>,
}

impl Held {
    fn release(mut self) -> Result<(), ClientError> {
        self.leases.into_iter().try_for_each(|id| self.client.release(id))
    }
}

/// Runs the measurement.
pub fn run(args: &Scrub) -> Result<Value, Box<dyn Error>> {
    wait_free(&args.socket)?;
    let pause = Duration::from_micros(args.pause_us);
    let (without, held) = leases(args, pause)?;
    held.release()?;
    wait_free(&args.socket)?;
    let stop = AtomicBool::new(false);
    let cpu = cpu_seconds(args.daemon)?;
    let (with, given, backlog) = std::thread::scope(|scope| {
        let giver = scope.spawn(|| give_back(args, Some(args.rate), &stop));
        let watcher = scope.spawn(|| watch(&args.socket, &stop));
        std::thread::sleep(Duration::from_millis(200));
        // What was leased is held until the client that gives back has ended: it would wait for as many slots more.
        let with = leases(args, pause);
        stop.store(true, Ordering::Relaxed);
        (with, join(giver), join(watcher))
    });
    let ((with, held), given, backlog) = (with?, given?, backlog?);
    held.release()?;
    let began = Instant::now();
    wait_free(&args.socket)?;
    let (drained, cpu) = (began.elapsed(), cpu_seconds(args.daemon)? - cpu);
    let most = most(args)?;
    let per_release = cpu * 1e6 / f64::from(given.releases.max(1) + u32::try_from(with.len())?);
    Ok(json!({
        "leases": with.len(),
        "without": without.json(),
        "with": with.json(),
        "rate": args.rate,
        "releases_per_second": f64::from(given.releases) / given.took.as_secs_f64(),
        "late": given.late,
        "backlog_most": backlog,
        "drained_s": drained.as_secs_f64(),
        "daemon_cpu_us_per_release": per_release,
        "most_per_second": most,
    }))
}

/// Leases at a steady pace, and says how long each took.
fn leases(args: &Scrub, pause: Duration) -> Result<(Times, Held), ClientError> {
    let mut client = Client::connect(&args.socket)?;
    let (mut times, mut leases) = (Times::default(), Vec::new());
    for _ in 0..args.leases {
        std::thread::sleep(pause);
        let began = Instant::now();
        leases.push(take(&mut client, false)?);
        times.push(began.elapsed());
    }
    Ok((times, Held { client, leases }))
}

/// Leases with the tap, as a VMM has it, and gives back, at that rate or as fast as it goes.
fn give_back(args: &Scrub, rate: Option<u32>, stop: &AtomicBool) -> Result<Given, ClientError> {
    let mut client = Client::connect(&args.socket)?;
    let (began, mut given) = (Instant::now(), Given::default());
    while !stop.load(Ordering::Relaxed) {
        if let Some(rate) = rate {
            let due = began + Duration::from_secs(1) * given.releases / rate;
            match due.checked_duration_since(Instant::now()) {
                Some(early) => std::thread::sleep(early),
                None => given.late += 1,
            }
        }
        let id = take(&mut client, true)?;
        client.release(id)?;
        given.releases += 1;
    }
    given.took = began.elapsed();
    Ok(given)
}

/// The most slots that were being cleaned at once.
fn watch(socket: &Path, stop: &AtomicBool) -> Result<u32, ClientError> {
    let mut client = Client::connect(socket)?;
    let mut most = 0;
    while !stop.load(Ordering::Relaxed) {
        let status = client.status()?;
        most = most.max(status.count(State::Scrubbing) + status.count(State::Quarantined));
        std::thread::sleep(LOOK);
    }
    Ok(most)
}

/// Releases per second when two clients give back as fast as they get: each slot is cleaned before it is leased again.
fn most(args: &Scrub) -> Result<f64, Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let given = std::thread::scope(|scope| {
        let givers = [0, 1].map(|_| scope.spawn(|| give_back(args, None, &stop)));
        std::thread::sleep(Duration::from_secs(args.seconds));
        stop.store(true, Ordering::Relaxed);
        givers.into_iter().map(join).collect::<Result<Vec<Given>, _>>()
    })?;
    // What was released last is not clean yet.
    let began = Instant::now();
    wait_free(&args.socket)?;
    let took = given.iter().map(|g| g.took).max().unwrap_or_default() + began.elapsed();
    Ok(f64::from(given.iter().map(|g| g.releases).sum::<u32>()) / took.as_secs_f64())
}

fn take(client: &mut Client, want_tap: bool) -> Result<LeaseId, ClientError> {
    let leases = client.lease(&LeaseOptions { wait: WAIT, want_tap, ..LeaseOptions::default() })?;
    // A tap that came along is closed here.
    Ok(leases.first().expect("the client gives as many leases as were asked for").id)
}

/// CPU time of a process, user and system, seconds.
fn cpu_seconds(pid: u32) -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
