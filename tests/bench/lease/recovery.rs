//! How long a pool goes unserved after a kill: from the start of the next daemon to its first answer, with leases to
//! recover. Starts the daemons itself and leaves none.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netslot_protocol::client::{Client, LeaseOptions};
use netslot_protocol::{Binding, Ip, State};
use serde_json::{Value, json};

use crate::Recovery;
use crate::figures::Times;

/// How long a daemon may take until it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that ends with this value, by SIGKILL, as in what is measured.
struct Daemon(Child);

impl Daemon {
    fn start(args: &Recovery) -> io::Result<Self> {
        let mut command = Command::new(&args.netslot);
        command.arg("--config").arg(&args.config).args(["--quiet", "serve"]).stdin(Stdio::null());
        command.spawn().map(Self)
    }

    /// Waits for the first answer.
    fn answers(&mut self, socket: &Path) -> Result<u32, Box<dyn Error>> {
        let began = Instant::now();
        loop {
            match Client::connect(socket).and_then(|mut client| client.status()) {
                Ok(status) => return Ok(status.count(State::Leased)),
                Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_micros(100)),
            }
            if let Some(ended) = self.0.try_wait()? {
                return Err(format!("the daemon ended with {ended}").into());
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the measurement.
pub fn run(args: &Recovery) -> Result<Value, Box<dyn Error>> {
    let mut daemon = Daemon::start(args)?;
    daemon.answers(&args.socket)?;
    let mut client = Client::connect(&args.socket)?;
    for number in 0..args.leases {
        let id = client.lease(&LeaseOptions::default())?.first().ok_or("no lease")?.id;
        // Every other one is bound, each to an address of its own.
        if number.is_multiple_of(2) {
            let [_, high, middle, low] = number.to_be_bytes();
            let tenant_v4 = Some([10, high, middle, low]);
            client.bind(id, Binding { vni: 9, remote: Ip::V4([192, 0, 2, 10]), tenant_v4, tenant_v6: None })?;
        }
    }
    drop((client, daemon));
    let mut times = Times::default();
    for _ in 0..args.rounds {
        let began = Instant::now();
        let mut daemon = Daemon::start(args)?;
        let leased = daemon.answers(&args.socket)?;
        times.push(began.elapsed());
        if leased != args.leases {
            return Err(format!("{leased} of {} leases are there after a kill", args.leases).into());
        }
    }
    Ok(json!({
        "rounds": times.len(), "leases": args.leases,
        "p50_ms": times.percentile(50) / 1e3, "most_ms": times.percentile(100) / 1e3,
    }))
}
