//! `netslot trace`: a slot's packets as lines, as JSON or as a capture file, until there is a reason to end.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use netslot_abi::{ConfigRecord, SlotState, tunnel};
use serde::Serialize;

use super::output::Output;
use super::signals::Stop;
use super::{Context, Exit, Failure};
use crate::address;
use crate::bpf::look::Looked;
use crate::bpf::{Look, record::GENEVE_PORT};
use crate::cli::TraceArgs;
use crate::config::Config;
use crate::execute::PassError;
use crate::limits::TRACE_LOOK_MS;
use crate::netlink::observed::{Link, Route};
use crate::netlink::{Socket, SocketError, route};
use crate::slot::{IfIndex, SlotId};
use crate::sys::packet;
use crate::sys::vault::Vault;
use crate::trace::{Ended, Hook, Mine, Seen, TraceError, Watch, pcapng, summary, watch::Places};
use crate::underlay;

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

/// Traces.
pub(super) fn run(args: &TraceArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let config = context.config()?;
    let stop = Stop::on_signals().map_err(|e| Failure::new(Exit::Failed, e))?;
    let netns = namespace(&config, args.slot)?;
    let slot = Known::of(&config, args.slot)?;
    let places = Places {
        netns: netns.as_fd(),
        tap: address::slot_ifindex(slot.record.ifindex_base, args.slot),
        tunnel: slot.record.tunnel == tunnel::GENEVE,
        uplink: Some(IfIndex(slot.record.uplink)).filter(|index| index.0 != 0),
        mine: slot.mine(),
    };
    let mut watch = Watch::open(places, usize::try_from(args.snaplen).expect("a few bytes"))?;
    let mut sink = Sink::open(args, &slot, watch.hooks(), out)?;
    log::debug!("watching slot {}", args.slot);
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut lease = slot.lease();
    let mut looked = Instant::now();
    let look_every = Duration::from_millis(TRACE_LOOK_MS);
    let reason = loop {
        let wait = until.map_or(look_every, |until| until.saturating_duration_since(Instant::now()).min(look_every));
        let (seen, ended) = watch.round(wait)?;
        sink.take(&seen, &mut left)?;
        if stop.flag().load(Ordering::Relaxed) || left == 0 {
            break None;
        }
        if let Ended::Gone(hook) = ended {
            break Some(format!("the device of hook {} is gone", hook.name()));
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            break None;
        }
        if looked.elapsed() >= look_every {
            looked = Instant::now();
            let now = slot.lease();
            if now != lease && lease.is_some() {
                break Some(format!("slot {}'s lease is over", args.slot));
            }
            lease = now;
            watch.select(slot.mine())?;
        }
    };
    // A signal may come between two hooks of a round: what was there when it came is still shown.
    let (seen, _) = watch.round(Duration::ZERO)?;
    sink.take(&seen, &mut left)?;
    sink.take(&watch.rest(), &mut left)?;
    sink.end(&watch)?;
    if let Some(reason) = reason {
        log::info!("the trace ended: {reason}");
    }
    Ok(Exit::Ok)
}

fn namespace(config: &Config, slot: SlotId) -> Result<OwnedFd, Failure> {
    let vault = Vault::open(&config.run_dir).map_err(PassError::from)?;
    let netns = vault.map(|vault| vault.netns(slot)).transpose().map_err(PassError::from)?.flatten();
    netns.ok_or_else(|| Failure::because(Exit::Failed, format!("there is no slot {slot}")))
}

/// What is known of a slot: from the pinned maps where programs run, else from the configuration and the host.
struct Known {
    slot: SlotId,
    look: Option<Look>,
    record: ConfigRecord,
}

impl Known {
    fn of(config: &Config, slot: SlotId) -> Result<Self, Failure> {
        let look = Look::open(&config.bpf_dir)?;
        if let Some(record) = look.as_ref().and_then(Look::record) {
            return Ok(Self { slot, record: *record, look });
        }
        log::warn!("no programs are pinned in {}: nothing rewrites this slot's packets", config.bpf_dir.display());
        let first = SlotId::first(1).next().expect("there is a slot 0");
        let record = ConfigRecord {
            ifindex_base: config.ifindex_base,
            uplink: uplink(config).map_err(PassError::from)?.map_or(0, |index| index.0),
            slot_v4: address::slot_ip(config.slot_cidr, first).octets(),
            slot_v6: config.slot_cidr6.map_or([0; 16], |range| address::slot_ip6(range, first).octets()),
            geneve_port: GENEVE_PORT,
            ..ConfigRecord::empty()
        };
        Ok(Self { slot, look, record })
    }

    fn looked(&self) -> Option<Looked> {
        self.look.as_ref().and_then(|look| look.slot(self.slot))
    }

    fn mine(&self) -> Mine {
        Mine::of(&self.record, self.slot, self.looked().and_then(|slot| slot.binding).as_ref())
    }

    /// The generation of the slot's lease; `None` while it is not leased, or where nothing is known of leases.
    fn lease(&self) -> Option<u64> {
        let record = self.looked()?.ledger;
        (record.state() == Some(SlotState::Leased)).then(|| record.generation())
    }
}

/// The host's uplink as `up` finds it; `None` where there is none.
fn uplink(config: &Config) -> Result<Option<IfIndex>, SocketError> {
    let mut root = Socket::open()?;
    let links = root.dump(route::dump_links, Link::read)?;
    let routes = root.dump(route::dump_routes, Route::read)?;
    Ok(underlay::resolve(config, &links, &routes).ok().map(|underlay| underlay.index))
}

/// Where the frames go.
struct Sink<'a> {
    out: &'a mut Output,
    form: Form,
    hooks: Vec<Hook>,
    /// UDP port of tunnels.
    port: u16,
}

enum Form {
    Lines,
    Json,
    Capture(Option<(BufWriter<File>, String)>),
}

#[derive(Serialize)]
struct SeenJson {
    time_ns: u64,
    hook: &'static str,
    direction: &'static str,
    length: usize,
    summary: String,
}

impl<'a> Sink<'a> {
    fn open(args: &TraceArgs, slot: &Known, hooks: Vec<Hook>, out: &'a mut Output) -> Result<Self, Failure> {
        let form = match &args.write {
            None if out.json() => Form::Json,
            None => Form::Lines,
            Some(path) if path == Path::new("-") => Form::Capture(None),
            Some(path) => {
                // Tenants' data: for its owner alone.
                let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
                let failed = |error| Failure::because(Exit::Failed, format!("open {}: {error}", path.display()));
                Form::Capture(Some((BufWriter::new(opened.map_err(failed)?), path.display().to_string())))
            }
        };
        let mut sink = Self { out, form, hooks, port: slot.record.geneve_port };
        if matches!(sink.form, Form::Capture(_)) {
            let lease = slot.lease().map_or_else(String::new, |generation| format!(", lease {generation}"));
            sink.capture(&pcapng::head(&format!("slot {}{lease}", slot.slot), &sink.hooks, args.snaplen))?;
        }
        sink.flush()?;
        Ok(sink)
    }

    /// Takes the frames as far as the count goes.
    fn take(&mut self, frames: &[Seen], left: &mut u64) -> Result<(), Failure> {
        for seen in frames {
            if *left == 0 {
                break;
            }
            *left -= 1;
            match self.form {
                Form::Capture(_) => self.capture(&pcapng::packet(&self.hooks, seen))?,
                Form::Lines => {
                    let summary = summary::line(&seen.bytes, seen.length, self.port);
                    let (time, hook, direction) = (clock(seen.time_ns), seen.hook.name(), seen.direction.name());
                    self.out.line(format_args!("{time} {hook:<6} {direction:<3} {summary}"))?;
                }
                Form::Json => self.out.value(&SeenJson {
                    time_ns: seen.time_ns,
                    hook: seen.hook.name(),
                    direction: seen.direction.name(),
                    length: seen.length,
                    summary: summary::line(&seen.bytes, seen.length, self.port),
                })?,
            }
        }
        self.flush()
    }

    /// Whoever watches wants to see it now.
    fn flush(&mut self) -> Result<(), Failure> {
        if let Form::Capture(Some((file, path))) = &mut self.form {
            file.flush().map_err(|error| Failure::because(Exit::Failed, format!("write to {path}: {error}")))?;
        }
        Ok(self.out.flush()?)
    }

    fn end(&mut self, watch: &Watch) -> Result<(), Failure> {
        let counts = watch.counts();
        let now = packet::now_ns();
        if matches!(self.form, Form::Capture(_)) {
            for (hook, given, lost) in &counts {
                self.capture(&pcapng::tail(&self.hooks, *hook, now, *given, *lost))?;
            }
        }
        let each: Vec<String> = counts.iter().map(|(hook, given, _)| format!("{} {given}", hook.name())).collect();
        let lost: u64 = counts.iter().map(|(_, _, lost)| lost).sum();
        log::info!("frames seen: {}", each.join(", "));
        if lost > 0 {
            log::warn!("{lost} frames more came faster than they could be read, and were lost to the trace alone");
        }
        self.flush()
    }

    fn capture(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.form {
            Form::Capture(Some((file, path))) => {
                let failed = |error| Failure::because(Exit::Failed, format!("write to {path}: {error}"));
                file.write_all(bytes).map_err(failed)
            }
            Form::Capture(None) | Form::Lines | Form::Json => Ok(self.out.bytes(bytes)?),
        }
    }
}

/// The time of day, UTC, to the microsecond.
fn clock(time_ns: u64) -> String {
    let (seconds, micros) = (time_ns / 1_000_000_000 % 86_400, time_ns / 1_000 % 1_000_000);
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_that_of_utc() {
        assert_eq!(clock(1_700_000_000_123_456_789), "22:13:20.123456");
        assert_eq!(clock(0), "00:00:00.000000");
    }
}
