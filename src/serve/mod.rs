//! The daemon: holds the pool's namespaces and leases them over a Unix socket. Start is recovery: whatever the process
//! before it was doing when it ended, this one takes over its leases and goes on.
//!
//! One loop does all that concerns leases (`daemon`); what takes the kernel's networking locks, or long, is done by
//! workers and a builder that report back. The ledger decides, the protocol is translated in `answer` alone.

mod accept;
mod answer;
mod builder;
mod conversation;
mod daemon;
mod effects;
mod error;
mod events;
mod inbox;
mod pool;
mod publish;
mod requests;
mod results;
mod snapshot;
mod socket;
mod watchers;
mod worker;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use netslot_abi::SlotState;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

pub use answer::record;
pub use error::ServeError;

use builder::{Builder, Order};
use daemon::{Daemon, Parts, token};
use inbox::Inbox;
use pool::Seen;
use publish::Publisher;
use socket::Listener;
use worker::{Done, Queue, Shop};

use crate::bpf::{MapCells, Maps};
use crate::config::Config;
use crate::execute::{self, Progress};
use crate::ledger::{Effects, Ledger, Observed, Records, Settings, Store as _};
use crate::limits::WAITERS_MAX;
use crate::netlink::{self, Socket};
use crate::scrub::Site;
use crate::slot::SlotId;
use crate::sys::clock;
use crate::sys::confine;
use crate::sys::lock::Lock;
use crate::sys::outbox::Outbox;

/// Serves the pool until SIGTERM or SIGINT. With `up`, makes or repairs it first, and begins to serve once
/// `ready_after` slots are there.
///
/// # Errors
/// [`ServeError`]. Leases stay in any case.
pub fn serve(config: Config, up: bool) -> Result<(), ServeError> {
    let config = Arc::new(config);
    let _alone = Lock::take(&config.run_dir.join("serve.lock"))?;
    let before = Maps::open(&config.bpf_dir)?;
    // A pass makes larger maps where these have become too small.
    let slots = before
        .as_ref()
        .map_or(config.slots_max, |maps| if up { maps.slots().max(config.slots_max) } else { maps.slots() });
    let leased = before.map_or(Ok(BTreeSet::new()), |maps| maps.cells().map(leased))?;
    pool::raise_fd_limit(&config, slots)?;
    // Before any thread is started, so that all are under it.
    give_up(&confine::STARTING);
    if let Err(errno) = confine::refuse() {
        log::warn!("no system calls are given up: seccomp: {errno}");
    }
    let mut start = Start::new(Arc::clone(&config), slots, leased)?;
    let early = if up { start.make_pool()? } else { Vec::new() };
    let maps = Maps::open(&config.bpf_dir)?.ok_or_else(|| ServeError::NoPool(config.run_dir.clone()))?;
    if !up && !maps.are_settled()? {
        return Err(ServeError::Unfinished);
    }
    start.serve(&maps, early, up)
}

/// Gives up the calling thread's other capabilities. A daemon that has to keep them is no worse a daemon.
fn give_up(kept: &[confine::Capability]) {
    if let Err(errno) = confine::keep(kept) {
        log::warn!("no capabilities are given up: capset: {errno}");
    }
}

/// The slots that the records say are leased.
fn leased(records: MapCells) -> BTreeSet<SlotId> {
    let store = Records(records);
    let is_leased = |slot: &SlotId| store.ledger(*slot).state() == Some(SlotState::Leased);
    SlotId::first(store.slots()).filter(is_leased).collect()
}

/// What stands before there is anything to serve: the poll, the signals, the builder.
struct Start {
    config: Arc<Config>,
    slots: u32,
    poll: Poll,
    signals: Signals,
    inbox: Arc<Inbox<Done>>,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    orders: Sender<Order>,
    builder: JoinHandle<()>,
}

impl Start {
    fn new(config: Arc<Config>, slots: u32, leased: BTreeSet<SlotId>) -> Result<Self, ServeError> {
        let poll = Poll::new().map_err(ServeError::call("epoll_create"))?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(ServeError::call("sigaction"))?;
        poll.registry()
            .register(&mut signals, token::SIGNALS, Interest::READABLE)
            .map_err(ServeError::call("epoll_ctl for signals"))?;
        let waker = Waker::new(poll.registry(), token::INBOX).map_err(ServeError::call("eventfd"))?;
        let inbox = Arc::new(Inbox::new(waker));
        let (progress, stop) = (Arc::new(Progress::new()), Arc::new(AtomicBool::new(false)));
        let (orders, taken) = mpsc::channel();
        let builder = Builder {
            config: Arc::clone(&config),
            slots,
            stop: Arc::clone(&stop),
            progress: Arc::clone(&progress),
            inbox: Arc::clone(&inbox),
        };
        let builder = thread("builder", move || builder.work(&taken, &leased))?;
        Ok(Self { config, slots, poll, signals, inbox, progress, stop, orders, builder })
    }

    /// Has the builder make the pool, and waits until there is enough of it; gives what else was reported meanwhile.
    fn make_pool(&mut self) -> Result<Vec<Done>, ServeError> {
        self.orders.send(Order::Up).expect("the builder waits for orders");
        let mut events = Events::with_capacity(16);
        let mut reported = Vec::new();
        loop {
            match self.poll.poll(&mut events, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                polled => polled.map_err(ServeError::call("epoll_wait"))?,
            }
            if self.signals.pending().any(|signal| signal != SIGHUP) {
                // What it has made stays, and the next one goes on from there.
                self.stop.store(true, Ordering::Relaxed);
            }
            let now = self.progress.now();
            let status = format!("making the pool: {}, {} of {}", now.phase, now.done, now.total);
            notify(&[NotifyState::Status(&status)]);
            let mut taken = Vec::new();
            self.inbox.take(&mut taken);
            let mut enough = false;
            for done in taken {
                match done {
                    Done::PassEnded(Err(broken)) if !enough => {
                        return Err(if self.stop.load(Ordering::Relaxed) {
                            ServeError::Stopped
                        } else {
                            ServeError::Pass(broken)
                        });
                    }
                    Done::PassServes | Done::PassEnded(_) => enough = true,
                    other @ (Done::Built { .. }
                    | Done::BuildFailed { .. }
                    | Done::Scrubbed { .. }
                    | Done::Taps { .. }
                    | Done::Listed { .. }
                    | Done::Gone(_)) => reported.push(other),
                }
            }
            if enough {
                return Ok(reported);
            }
        }
    }

    fn serve(self, maps: &Maps, early: Vec<Done>, up: bool) -> Result<(), ServeError> {
        let Self { config, slots, poll, signals, inbox, stop, orders, builder, .. } = self;
        let started_ns = clock::boottime_ns();
        let records = Arc::new(maps.cells()?);
        let store = maps.store(Arc::clone(&records))?;
        let registry = poll.registry();
        // Before the look, so that nothing is deleted unseen in between.
        let links = netlink::Listener::open()?;
        registry
            .register(&mut SourceFd(&std::os::fd::AsFd::as_fd(&links).as_raw_fd()), token::LINKS, Interest::READABLE)
            .map_err(ServeError::call("epoll_ctl for netlink"))?;
        let mut seen = Seen::look(&config, slots)?;
        let mut fx = Effects::with_capacity(slots, WAITERS_MAX);
        let unmade = unmade(&config, &records, up);
        unmade.iter().for_each(|slot| seen.netns[slot.index()] = None);
        let settings = Settings { tunnels: pool::tunnels(&config)?, ..Settings::of(&config) };
        let observed = |slot: SlotId| -> Observed { seen.observed(slot) };
        let outbox = Outbox::open_or_make(&config.run_dir)?;
        let ledger = Ledger::open(store, settings, observed, &outbox.sent(), started_ns, &mut fx);
        // Now the records say it themselves.
        outbox.clear();
        let mtu = seen.mtu.or(config.mtu).unwrap_or(crate::limits::MTU_MIN_IPV6);
        let blueprint = execute::standing_blueprint(&config, mtu).map_err(ServeError::Blueprint)?;
        let site = Site::open(&config, blueprint).map_err(ServeError::file("open", "/dev/net"))?;
        let queue = Queue::new(2 * slots as usize + WAITERS_MAX as usize);
        let shop = Arc::new(Shop { queue, inbox, site, records, slots: config.slots });
        let workers = hire(&shop, config.threads)?;
        let listener = Listener::open(&config.socket)?;
        registry
            .register(&mut SourceFd(&listener.fd.as_raw_fd()), token::LISTENER, Interest::READABLE)
            .map_err(ServeError::call("epoll_ctl for the socket"))?;
        give_up(&confine::SERVING);
        let publisher = Publisher::open(&config.netns_dir, slots)?;
        let count = |state| ledger.count(state);
        log::info!(
            "serving at {}: {} slots free, {} leased, {} being cleaned, {} quarantined",
            config.socket.display(),
            count(SlotState::Free),
            count(SlotState::Leased),
            count(SlotState::Scrubbing),
            count(SlotState::Quarantined)
        );
        let parts = Parts {
            config,
            mtu,
            poll,
            signals,
            listener,
            links,
            ledger,
            outbox,
            netns: seen.netns,
            publisher,
            shop: Arc::clone(&shop),
            builder: orders,
            started_ns,
        };
        let mut daemon = Daemon::new(parts, fx, early);
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let served = daemon.run();
        notify(&[NotifyState::Stopping]);
        daemon.farewell();
        // The orders' other end went with the daemon. A worker ends after its present job, a pass at the next slot.
        stop.store(true, Ordering::Relaxed);
        shop.queue.close();
        for thread in workers.into_iter().chain([builder]) {
            if thread.join().is_err() {
                log::error!("a worker panicked");
            }
        }
        served
    }
}

/// Slots that the pass in the background may still be making: whole or not, they are told of when it is done. What a
/// record says anything of is not among them.
fn unmade(config: &Config, records: &MapCells, up: bool) -> Vec<SlotId> {
    let Some(first) = config.ready_after.filter(|_| up) else { return Vec::new() };
    let store = Records(records);
    let building = |slot: &SlotId| store.ledger(*slot).state() == Some(SlotState::Building);
    SlotId::first(store.slots()).filter(|slot| slot.number() >= first).filter(building).collect()
}

fn hire(shop: &Arc<Shop>, threads: usize) -> Result<Vec<JoinHandle<()>>, ServeError> {
    (0..threads.max(1))
        .map(|_| {
            // Opened here, in the daemon's own namespace.
            let (shop, mut root) = (Arc::clone(shop), Socket::open()?);
            thread("worker", move || shop.work(&mut root))
        })
        .collect()
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ServeError> {
    let work = || {
        give_up(&confine::SERVING);
        work();
    };
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(ServeError::call("spawn a thread"))
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {error}");
    }
}
