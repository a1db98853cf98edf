//! Lease and release by one client, each round beside the same bytes through an empty echo, in turns, so that both see
//! the same machine.

use std::error::Error;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::limits::FRAME_BYTES_MAX;
use netslot_protocol::types::LeaseId;
use netslot_protocol::{Call, ErrorCode, Policy, Text, VERSION_MAX, VERSION_MIN, decode, frame, reply, request};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket};
use serde_json::{Value, json};

use crate::echo::{Echo, Sizes};
use crate::figures::Times;
use crate::{RoundTrips, wait_free};

/// Rounds before the first that counts: page faults and first allocations are not what a lease costs.
const WARM_UP: usize = 50;
/// Before an empty pool is asked again.
const EMPTY_PAUSE: Duration = Duration::from_millis(5);

/// Times of one side.
#[derive(Debug, Default)]
struct Side {
    lease: Times,
    release: Times,
    both: Times,
}

impl Side {
    fn push(&mut self, (lease, release): (Duration, Duration)) {
        self.lease.push(lease);
        self.release.push(release);
        self.both.push(lease + release);
    }

    fn json(&self) -> Value {
        json!({ "lease": self.lease.json(), "release": self.release.json(), "both": self.both.json() })
    }
}

/// Runs the measurement.
pub fn run(args: &RoundTrips) -> Result<Value, Box<dyn Error>> {
    wait_free(&args.socket)?;
    let (lease, release) = sizes(&args.socket)?;
    let echo = Echo::start()?;
    let mut client = Client::connect(&args.socket)?;
    let options = LeaseOptions { want_netns: args.netns, ..LeaseOptions::default() };
    let (mut daemon, mut empty_echo, mut empty) = (Side::default(), Side::default(), 0_u32);
    for round in 0..args.rounds + WARM_UP {
        if args.while_runs.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            break;
        }
        std::thread::sleep(Duration::from_micros(args.pause_us));
        let echoed = || -> nix::Result<_> { Ok((echo.exchange(lease, args.netns)?, echo.exchange(release, false)?)) };
        // Whoever comes first after the pause finds the colder caches: they take turns at that too.
        let before = if round % 2 == 0 { Some(echoed()?) } else { None };
        let leased = loop {
            match cycle(&mut client, &options) {
                Err(error) if error.code() == Some(ErrorCode::PoolEmpty) => {
                    empty += 1;
                    std::thread::sleep(EMPTY_PAUSE);
                }
                result => break result?,
            }
        };
        let echoed = match before {
            Some(times) => times,
            None => echoed()?,
        };
        if round >= WARM_UP {
            daemon.push(leased);
            empty_echo.push(echoed);
        }
    }
    let ratio = |percent| daemon.both.percentile(percent) / empty_echo.both.percentile(percent);
    Ok(json!({
        "rounds": daemon.both.len(),
        "netns": args.netns,
        "pool_empty": empty,
        "bytes": {
            "lease": [lease.request, lease.answer],
            "release": [release.request, release.answer],
        },
        "netslot": daemon.json(),
        "echo": empty_echo.json(),
        "ratio_p50": ratio(50),
        "ratio_p99": ratio(99),
    }))
}

/// One lease and its release, each timed; a namespace that came along is closed in between, untimed as the echo's is.
fn cycle(client: &mut Client, options: &LeaseOptions<'_>) -> Result<(Duration, Duration), ClientError> {
    let began = Instant::now();
    let leases = client.lease(options)?;
    let lease = began.elapsed();
    let ids: Vec<LeaseId> = leases.into_iter().map(|lease| lease.id).collect();
    let began = Instant::now();
    for id in ids {
        client.release(id)?;
    }
    Ok((lease, began.elapsed()))
}

/// The bytes that a lease and a release take on this daemon's wire, seen by doing both without the client.
fn sizes(path: &Path) -> Result<(Sizes, Sizes), Box<dyn Error>> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let name = Text::cut("bench");
    let hello = request::Hello { version_min: VERSION_MIN, version_max: VERSION_MAX, client: name };
    exchange(&socket, &hello)?;
    let ask = request::Lease {
        count: 1,
        wait_ms: 0,
        tag: Text::cut(""),
        policy: Policy::Explicit,
        want_netns_fd: false,
        want_tap_fd: false,
        own_stack: false,
    };
    let (lease, granted) = exchange(&socket, &ask)?;
    let granted: reply::Lease = granted;
    let id = granted.grants.first().ok_or("no slot was leased")?.lease;
    let (release, ()) = exchange(&socket, &request::Release { lease: id })?;
    Ok((lease, release))
}

fn exchange<C: Call>(socket: &OwnedFd, call: &C) -> Result<(Sizes, C::Reply), Box<dyn Error>> {
    let mut room = [0; FRAME_BYTES_MAX];
    let request = frame::write_request(VERSION_MAX, 1, call, &mut room)?;
    send(socket.as_raw_fd(), &room[..request], MsgFlags::MSG_NOSIGNAL)?;
    let answer = recv(socket.as_raw_fd(), &mut room, MsgFlags::empty())?;
    let (header, body) = frame::split(&room[..answer])?;
    if header.kind != C::KIND.reply() {
        return Err(format!("the daemon answered {} with kind {:#06x}", C::KIND.name(), header.kind).into());
    }
    Ok((Sizes { request, answer }, decode(body)?))
}
