//! The daemon: holds the pool's namespaces and leases them over a Unix socket. Start is recovery: whatever the process
//! before it was doing when it ended, this one takes over its leases and goes on.
//!
//! One loop does all that concerns leases (`daemon`); what takes the kernel's networking locks, or long, is done by
//! workers and a builder that report back. The ledger decides, the protocol is translated in `answer` alone.

mod accept;
mod answer;
mod bequest;
mod builder;
mod connections;
mod conversation;
mod daemon;
mod effects;
mod error;
mod estate;
mod events;
mod inbox;
mod lists;
mod manager;
mod peer;
mod pool;
mod publish;
mod requests;
mod results;
mod snapshot;
mod socket;
mod succession;
mod watchers;
mod worker;

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use netslot_abi::SlotState;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

pub use answer::record;
pub use error::ServeError;
pub use succession::SuccessionError;

use builder::{Builder, Order};
use daemon::{Daemon, Parts, token};
use inbox::Inbox;
use manager::{Passed, notify};
use pool::Seen;
use publish::Publisher;
use socket::Listener;
use succession::{Heir, Heritage};
use worker::{Done, Queue, Shop};

use crate::bpf::{MapCells, MapStore, Maps};
use crate::config::Config;
use crate::execute::{self, Progress};
use crate::ledger::{Effects, Ledger, Observed, Records, Settings, Store as _};
use crate::limits::{HAND_OVER_MS, WAITERS_MAX};
use crate::netlink::{self, Socket};
use crate::scrub::Site;
use crate::slot::SlotId;
use crate::sys::clock;
use crate::sys::confine;
use crate::sys::lock::{Lock, LockError};
use crate::sys::outbox::Outbox;
use crate::sys::thread::wait_its_turn;

/// How long a killed process may take to let go of everything, once it has let go of something.
const DYING: Duration = Duration::from_secs(1);

/// How a daemon begins.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// Makes or repairs the pool first, and serves once `ready_after` slots are there.
    pub up: bool,
    /// Takes the place of the running daemon, if there is one; not together with `up`.
    pub replace: bool,
}

/// Serves the pool until SIGTERM or SIGINT, or until a successor has taken over.
///
/// # Errors
/// [`ServeError`]. Leases stay in any case.
pub fn serve(config: Config, begin: Begin) -> Result<(), ServeError> {
    // By number, so before anything is opened here that could have such a number.
    let passed = Passed::take()?;
    let config = Arc::new(config);
    let place = if begin.replace { take_over(&config)? } else { None };
    let (alone, lot) = match place {
        Some(place) => place,
        None => (lock(&config)?, Lot::of(passed, &config)),
    };
    let up = begin.up;
    let before = Maps::open(&config.bpf_dir)?;
    // A pass makes larger maps where these have become too small.
    let slots = before
        .as_ref()
        .map_or(config.slots_max, |maps| if up { maps.slots().max(config.slots_max) } else { maps.slots() });
    let leased = before.map_or(Ok(BTreeSet::new()), |maps| maps.cells().map(|cells| Records(cells).leased()))?;
    pool::raise_fd_limit(&config, slots)?;
    // Before any thread is started, so that all are under it.
    give_up(&confine::STARTING);
    if let Err(errno) = confine::refuse() {
        log::warn!("no system calls are given up: seccomp: {errno}");
    }
    let mut start = Start::new(Arc::clone(&config), slots, leased)?;
    let early = if up { start.make_pool()? } else { Early::default() };
    let maps = open_maps(&config, up)?;
    let succeeded = start.serve(&maps, early, lot, up)?;
    drop((maps, alone));
    if let Some((heir, named)) = succeeded {
        heir.part();
        drop(named);
    }
    Ok(())
}

/// The pool's maps, made to their end by a pass of this process or of one before it.
fn open_maps(config: &Config, up: bool) -> Result<Maps, ServeError> {
    let Some(maps) = Maps::open(&config.bpf_dir)? else {
        execute::leased(config).map_err(ServeError::Leases)?;
        return Err(ServeError::NoPool(config.run_dir.clone()));
    };
    if !up && !maps.are_settled()? {
        return Err(ServeError::Unfinished);
    }
    Ok(maps)
}

/// The daemon's place.
fn lock(config: &Config) -> Result<Lock, LockError> {
    Lock::take(&config.run_dir.join("serve.lock"))
}

/// Takes the running daemon's place; `None` where none runs. All that can be wrong with this process is found before it
/// asks.
fn take_over(config: &Config) -> Result<Option<(Lock, Lot)>, ServeError> {
    let maps = open_maps(config, false)?;
    pool::raise_fd_limit(config, maps.slots())?;
    Seen::look(config, maps.slots())?;
    drop(maps);
    let mut until = Instant::now() + Duration::from_millis(HAND_OVER_MS);
    let mut lot = None;
    loop {
        if lot.is_none() {
            match succession::claim(&config.run_dir, &config.socket) {
                Ok(Some((fd, heritage))) => {
                    let listener = Some(Listener::of_predecessor(fd, &config.socket));
                    lot = Some(Lot { listener, heritage: Some(heritage) });
                    // However long the other took to hand over: now nobody but this process can serve.
                    until = Instant::now() + Duration::from_millis(HAND_OVER_MS);
                }
                Ok(None) => {}
                Err(SuccessionError::Ended) if is_gone(config)? => {
                    log::warn!("the daemon that ran was killed while it handed over: its connections have ended");
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        match lock(config) {
            Ok(lock) => return Ok(lot.map(|lot| (lock, lot))),
            // One that has handed over is a moment from letting go, and one that has just begun from being heard.
            Err(LockError::Held { .. }) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the daemon that ran has died: the kernel closes what it had one after the other, its lock a moment later than
/// the talk.
fn is_gone(config: &Config) -> Result<bool, LockError> {
    let until = Instant::now() + DYING;
    loop {
        match lock(config) {
            Ok(_) => return Ok(true),
            Err(LockError::Held { .. }) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Err(LockError::Held { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// What falls to a daemon when it begins: its socket, if another has it already, and what the one before has left.
#[derive(Debug)]
struct Lot {
    listener: Option<Listener>,
    heritage: Option<Heritage>,
}

impl Lot {
    /// What the service manager passed.
    fn of(passed: Passed, config: &Config) -> Self {
        let Passed { listener, estate, connections } = passed;
        let listener = listener.map(|fd| Listener::of_manager(fd, &config.socket));
        Self { listener, heritage: bequest::kept(estate, connections) }
    }
}

/// What a pass reported before there was a daemon to hear it.
#[derive(Debug, Default)]
struct Early {
    done: Vec<Done>,
    /// It goes on.
    passing: bool,
}

/// Gives up the calling thread's other capabilities. A daemon that has to keep them is no worse a daemon.
fn give_up(kept: &[confine::Capability]) {
    if let Err(errno) = confine::keep(kept) {
        log::warn!("no capabilities are given up: capset: {errno}");
    }
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
    fn make_pool(&mut self) -> Result<Early, ServeError> {
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
            let (mut enough, mut over) = (false, false);
            for done in taken {
                match done {
                    Done::PassEnded(Err(broken)) if !enough => {
                        return Err(if self.stop.load(Ordering::Relaxed) {
                            ServeError::Stopped
                        } else {
                            ServeError::Pass(broken)
                        });
                    }
                    Done::PassServes => enough = true,
                    Done::PassEnded(_) => (enough, over) = (true, true),
                    other @ (Done::Built { .. }
                    | Done::BuildFailed { .. }
                    | Done::Scrubbed { .. }
                    | Done::Taps { .. }
                    | Done::Listed { .. }
                    | Done::Gone(_)) => reported.push(other),
                }
            }
            if enough {
                return Ok(Early { done: reported, passing: !over });
            }
        }
    }

    /// Serves to the end; gives the successor, if there is one, and what names lead to.
    fn serve(self, maps: &Maps, early: Early, lot: Lot, up: bool) -> Result<Option<(Heir, Vec<OwnedFd>)>, ServeError> {
        let Self { config, slots, poll, signals, inbox, stop, orders, builder, .. } = self;
        let started_ns = clock::boottime_ns();
        let records = Arc::new(maps.cells()?);
        let mut store = maps.store(Arc::clone(&records))?;
        sweep(&mut store);
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
        let listener = lot.listener.map_or_else(|| Listener::open(&config.socket), Ok)?;
        if listener.is_ours() {
            manager::keep_listener(&listener.fd);
        }
        // The socket is its group's. Before more threads are started: what is given up is the calling thread's.
        give_up(&confine::SERVING);
        let site = Site::open(&config, blueprint).map_err(ServeError::file("open", "/dev/net"))?;
        let queue = Queue::new(2 * slots as usize + WAITERS_MAX as usize);
        let shop = Arc::new(Shop { queue, inbox, site, records, slots: config.slots });
        let workers = hire(&shop, config.threads)?;
        let heirs = succession::listen(&config.run_dir).map_err(ServeError::file("listen in", &config.run_dir))?;
        registry
            .register(&mut SourceFd(&heirs.as_raw_fd()), token::HEIRS, Interest::READABLE)
            .map_err(ServeError::call("epoll_ctl for a successor"))?;
        registry
            .register(&mut SourceFd(&listener.fd.as_raw_fd()), token::LISTENER, Interest::READABLE)
            .map_err(ServeError::call("epoll_ctl for the socket"))?;
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
            heirs,
            links,
            ledger,
            outbox,
            netns: seen.netns,
            publisher,
            shop: Arc::clone(&shop),
            builder: orders,
            started_ns,
        };
        let mut daemon = Daemon::new(parts, fx, early.done);
        daemon.passing = early.passing;
        if let Some(heritage) = lot.heritage {
            // Kept no longer, before anything is done by it: a daemon that begins after a kill must not do it again.
            manager::forget_estate();
            daemon.inherit(heritage);
        }
        notify(&[NotifyState::Ready]);
        let served = daemon.run();
        notify(&[NotifyState::Stopping]);
        let succeeded = daemon.farewell();
        // The orders' other end went with the daemon. A worker ends after its present job, a pass at the next slot.
        stop.store(true, Ordering::Relaxed);
        shop.queue.close();
        for thread in workers.into_iter().chain([builder]) {
            if thread.join().is_err() {
                log::error!("a worker panicked");
            }
        }
        served.map(|()| succeeded)
    }
}

/// Rids the tenants' map of what a killed daemon has left in it. One that cannot be rid of it serves as well as it did.
fn sweep(store: &mut MapStore) {
    match store.sweep() {
        Ok(0) => {}
        Ok(swept) => log::info!("{swept} addresses of bindings that are no more are taken out of the tenants' map"),
        Err(error) => log::warn!("the tenants' map may hold addresses of bindings that are no more: {error}"),
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
        wait_its_turn(); // a priority is the loop's, which answers
        work();
    };
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(ServeError::call("spawn a thread"))
}
