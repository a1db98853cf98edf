//! Leases per second of many clients at once: a burst that only takes, then gives back, and a steady state in which
//! each slot is scrubbed before it is leased again.

use std::error::Error;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::types::LeaseId;
use serde_json::{Value, json};

use crate::{Throughput, wait_free};

/// How long a client waits in the steady state for a slot to be scrubbed.
const WAIT: Duration = Duration::from_secs(10);

/// What one client did.
struct Done {
    leasing: Duration,
    releasing: Duration,
    cycles: usize,
}

/// Runs the measurement.
pub fn run(args: &Throughput) -> Result<Value, Box<dyn Error>> {
    wait_free(&args.socket)?;
    let each = args.leases / args.clients.max(1);
    let together = Barrier::new(args.clients);
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.clients).map(|_| scope.spawn(|| client(args, each, &together))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Result<Vec<Done>, ClientError>>()
    })?;
    let longest = |time: fn(&Done) -> Duration| done.iter().map(time).max().unwrap_or_default();
    let rate = |time: Duration| (each * args.clients) as f64 / time.as_secs_f64();
    Ok(json!({
        "clients": args.clients,
        "leases": each * args.clients,
        "leases_per_second": rate(longest(|d| d.leasing)),
        "releases_per_second": rate(longest(|d| d.releasing)),
        "cycles_per_second": done.iter().map(|d| d.cycles).sum::<usize>() as f64 / args.seconds as f64,
    }))
}

fn client(args: &Throughput, leases: usize, together: &Barrier) -> Result<Done, ClientError> {
    let connected = Client::connect(&args.socket);
    // Everybody meets at every barrier, or those that came would wait for ever: failures are told at the end.
    together.wait();
    let took = connected.and_then(|mut client| {
        let began = Instant::now();
        let ids = (0..leases).map(|_| take(&mut client, Duration::ZERO)).collect::<Result<Vec<LeaseId>, _>>()?;
        Ok((client, ids, began.elapsed()))
    });
    together.wait();
    let gave = took.and_then(|(mut client, ids, leasing)| {
        let began = Instant::now();
        ids.into_iter().try_for_each(|id| client.release(id))?;
        Ok((client, leasing, began.elapsed()))
    });
    together.wait();
    let (mut client, leasing, releasing) = gave?;
    let (until, mut cycles) = (Instant::now() + Duration::from_secs(args.seconds), 0);
    while Instant::now() < until {
        let id = take(&mut client, WAIT)?;
        client.release(id)?;
        cycles += 1;
    }
    Ok(Done { leasing, releasing, cycles })
}

fn take(client: &mut Client, wait: Duration) -> Result<LeaseId, ClientError> {
    let leases = client.lease(&LeaseOptions { wait, ..LeaseOptions::default() })?;
    Ok(leases.first().expect("the client gives as many leases as were asked for").id)
}
