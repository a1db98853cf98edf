//! The loop: one thread, one mio poll, everything that concerns leases in it and nothing that waits. What each kind of
//! event leads to stands in the files beside this one: `accept`, `connections`, `requests`, `lists`,
//! `effects`, `results`.
//!
//! The lease path allocates nothing and makes no call but the socket's: all tables, buffers and queues are made at start,
//! for the largest numbers that the configuration allows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mio::{Events, Poll, Token};
use netslot_abi::SlotState;
use netslot_protocol::limits::FRAME_BYTES_MAX;
use netslot_protocol::reply;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::builder::Order;
use super::error::ServeError;
use super::events::Ring;
use super::lists::Unread;
use super::manager::{Counts, Manager};
use super::peer::Peer;
use super::publish::Publisher;
use super::socket::Listener;
use super::succession::Heir;
use super::worker::{Asker, Done, Shop};
use crate::bpf::MapStore;
use crate::config::Config;
use crate::ledger::{Effects, HolderId, Lease, Ledger};
use crate::limits::NAMES_PER_TURN;
use crate::netlink;
use crate::slot::SlotId;
use crate::sys::clock;
use crate::sys::outbox::Outbox;

/// Tokens of the single sources; connections have their holder's number, processes that and [`PROCESSES`].
pub(super) mod token {
    use mio::Token;

    pub const LISTENER: Token = Token(usize::MAX);
    pub const SIGNALS: Token = Token(usize::MAX - 1);
    pub const INBOX: Token = Token(usize::MAX - 2);
    pub const LINKS: Token = Token(usize::MAX - 3);
    pub const HEIRS: Token = Token(usize::MAX - 4);
    /// Past every holder's number.
    pub const PROCESSES: usize = 1 << 32;
}

/// Events taken from the kernel at once: what is left comes with the next poll.
const EVENTS_AT_ONCE: usize = 1_024;

/// Something to do at a later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    /// Make a quarantined slot again.
    Rebuild,
    /// Take a slot that is beyond the configured number, and gone, out of the pool.
    Retire,
    /// Tell the ledger that a slot could not be made, so that it may ask again.
    BuildFailed,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub leases: u64,
    pub releases: u64,
    pub empty: u64,
}

/// What the daemon was put together from; see [`super::serve`].
pub(super) struct Parts {
    pub config: Arc<Config>,
    pub mtu: u32,
    pub poll: Poll,
    pub signals: Signals,
    pub listener: Listener,
    pub heirs: OwnedFd,
    pub links: netlink::Listener,
    pub ledger: Ledger<MapStore>,
    pub outbox: Outbox,
    pub netns: Box<[Option<OwnedFd>]>,
    pub publisher: Publisher,
    pub shop: Arc<Shop>,
    pub builder: Sender<Order>,
    pub started_ns: u64,
}

/// The running daemon.
pub(super) struct Daemon {
    pub config: Arc<Config>,
    pub pool: reply::Pool,
    pub poll: Poll,
    signals: Signals,
    pub listener: Listener,
    /// Where a successor asks for the pool.
    pub heirs: OwnedFd,
    pub links: netlink::Listener,
    pub ledger: Ledger<MapStore>,
    /// The grant that is being answered, for whoever comes after this process.
    pub outbox: Outbox,
    /// Effects of the command under way.
    pub fx: Effects,
    pub netns: Box<[Option<OwnedFd>]>,
    pub peers: Box<[Peer]>,
    pub publisher: Publisher,
    pub shop: Arc<Shop>,
    pub builder: Sender<Order>,
    pub ring: Ring,
    pub watchers: Vec<HolderId>,
    /// Lists that nobody is known to have read.
    pub lists_unread: Vec<Unread>,
    /// Requests for lists that wait for those to be read.
    pub lists_held: VecDeque<Asker>,
    /// Connections that may have something to say.
    pub ready: VecDeque<HolderId>,
    /// The listener may have a connection.
    pub accepting: bool,
    /// When it is to be asked again, after the kernel could not give one.
    pub accept_at_ns: Option<u64>,
    /// Held so that at the limit of open files one more connection can be taken and told so.
    pub spare_fd: Option<OwnedFd>,
    /// Leases whose reply did not reach the client, to be given back.
    pub undo: Vec<Lease>,
    /// Connections to be closed.
    pub closings: Vec<HolderId>,
    /// Holders whose process turned out to be gone.
    pub orphans: Vec<HolderId>,
    /// The grant that is being answered.
    pub grant: Vec<Lease>,
    pub lease_reply: reply::Lease,
    /// The frame that is being sent.
    pub frame: Box<[u8; FRAME_BYTES_MAX]>,
    pub done: Vec<Done>,
    pub later: BTreeMap<(u64, SlotId), Later>,
    /// How often in a row each slot was to be made again, and was not leased in between.
    pub attempts: Box<[u32]>,
    /// Why slots are quarantined, in words.
    pub details: HashMap<SlotId, String>,
    pub serial: u64,
    pub totals: Totals,
    /// Slots made anew by this process. Not among the totals: neither version 1 of the protocol nor the estate has a field
    /// for it, and neither is worth a version.
    pub rebuilt: u64,
    pub started_ns: u64,
    /// The time of this turn, nanoseconds of `CLOCK_BOOTTIME`.
    pub now_ns: u64,
    pub manager: Manager,
    /// The pass that the daemon began with goes on.
    pub passing: bool,
    /// The talk with the daemon before this one, which waits for its end.
    pub before: Option<OwnedFd>,
    /// Who has taken over.
    heir: Option<Heir>,
    stopping: bool,
}

impl Daemon {
    pub fn new(parts: Parts, fx: Effects, early: Vec<Done>) -> Self {
        let holders = parts.ledger.holders_max() as usize;
        let slots = parts.ledger.slots() as usize;
        let pool = super::answer::pool(&parts.config, parts.mtu);
        Self {
            lease_reply: super::answer::empty_lease(&pool),
            pool,
            config: parts.config,
            poll: parts.poll,
            signals: parts.signals,
            listener: parts.listener,
            heirs: parts.heirs,
            links: parts.links,
            ledger: parts.ledger,
            outbox: parts.outbox,
            fx,
            netns: parts.netns,
            peers: (0..holders).map(|_| Peer::default()).collect(),
            publisher: parts.publisher,
            shop: parts.shop,
            builder: parts.builder,
            ring: Ring::new(crate::limits::EVENTS_KEPT),
            watchers: Vec::with_capacity(holders),
            lists_unread: Vec::new(),
            lists_held: VecDeque::new(),
            ready: VecDeque::with_capacity(holders),
            accepting: true,
            accept_at_ns: None,
            spare_fd: spare_fd(),
            undo: Vec::with_capacity(slots),
            closings: Vec::with_capacity(holders),
            orphans: Vec::new(),
            grant: Vec::with_capacity(crate::limits::LEASE_SLOTS_MAX as usize),
            frame: Box::new([0; FRAME_BYTES_MAX]),
            done: early,
            later: BTreeMap::new(),
            attempts: vec![0; slots].into_boxed_slice(),
            details: HashMap::new(),
            serial: 0,
            totals: Totals::default(),
            rebuilt: 0,
            started_ns: parts.started_ns,
            now_ns: parts.started_ns,
            manager: Manager::new(parts.started_ns),
            passing: false,
            before: None,
            heir: None,
            stopping: false,
        }
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Where the poll itself fails.
    pub fn run(&mut self) -> Result<(), ServeError> {
        // What recovery asks for, and the names of the leases that go on.
        self.settle();
        for (slot, (record, _)) in SlotId::first(self.ledger.slots()).zip(self.ledger.records()) {
            self.publisher.want(slot, record.state() == Some(SlotState::Leased), self.now_ns);
        }
        self.let_go_of_predecessor();
        self.take_done();
        let mut events = Events::with_capacity(EVENTS_AT_ONCE);
        while !self.stopping {
            match self.poll.poll(&mut events, self.pause()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled.map_err(ServeError::call("epoll_wait"))?,
            }
            self.now_ns = clock::boottime_ns();
            for event in &events {
                self.note(event.token(), event.is_writable());
                if self.is_succeeded() {
                    // Not one request more: the records are another's.
                    return Ok(());
                }
            }
            self.turn();
        }
        Ok(())
    }

    /// Sorts an event to where it is worked on.
    fn note(&mut self, token: Token, writable: bool) {
        match token {
            token::LISTENER => self.accepting = true,
            token::SIGNALS => self.take_signals(),
            token::INBOX => self.take_results(),
            token::LINKS => self.hear_links(),
            token::HEIRS => self.meet_heirs(),
            Token(number) if number >= token::PROCESSES => self.look_at_process(number - token::PROCESSES),
            Token(number) => {
                if writable {
                    self.resume_watcher(number);
                }
                self.look_at_lists(number);
                self.enqueue(number);
            }
        }
    }

    /// One turn of work: requests first, then everything else, each within its bound.
    fn turn(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(holder) = self.ready.pop_front() else { break };
            self.converse(holder);
        }
        if self.accepting || self.accept_at_ns.take_if(|due_ns| *due_ns <= self.now_ns).is_some() {
            self.accepting = true;
            self.accept();
        }
        if self.ledger.next_deadline_ns().is_some_and(|due| due <= self.now_ns) {
            self.ledger.tick(self.now_ns, &mut self.fx);
            self.settle();
        }
        self.do_what_is_due();
        self.send_events();
        let netns = |slot: SlotId| self.netns[slot.index()].as_ref().map(std::os::fd::AsRawFd::as_raw_fd);
        self.publisher.catch_up(self.now_ns, NAMES_PER_TURN, netns);
        self.let_go_of_predecessor();
        self.tell_manager();
    }

    /// Lets the daemon before this one end, once no name leads to it.
    fn let_go_of_predecessor(&mut self) {
        if self.before.is_some() && !self.publisher.leads_elsewhere() {
            self.before = None;
        }
    }

    /// How long the poll may wait; `None` = until something happens.
    fn pause(&self) -> Option<Duration> {
        if self.accepting || !self.ready.is_empty() || self.has_events_to_send() {
            return Some(Duration::ZERO);
        }
        let due = [
            self.accept_at_ns,
            self.ledger.next_deadline_ns(),
            self.publisher.due_ns(),
            self.later.keys().next().map(|(due_ns, _)| *due_ns),
            self.manager.due_ns(),
        ];
        let soonest = due.into_iter().flatten().min()?;
        Some(Duration::from_nanos(soonest.saturating_sub(clock::boottime_ns())))
    }

    fn take_signals(&mut self) {
        for signal in self.signals.pending() {
            match signal {
                SIGTERM | SIGINT => {
                    log::info!("stopping; leases stay as they are");
                    self.stopping = true;
                }
                SIGHUP => log::info!("SIGHUP: the configuration is read at start; restart the daemon to change it"),
                _ => {}
            }
        }
    }

    fn tell_manager(&mut self) {
        let (ledger, now_ns, rebuilt) = (&self.ledger, self.now_ns, self.rebuilt);
        self.manager.turn(now_ns, || Counts {
            free: ledger.count(SlotState::Free),
            leased: ledger.count(SlotState::Leased),
            scrubbing: ledger.count(SlotState::Scrubbing),
            quarantined: ledger.count(SlotState::Quarantined) + ledger.count(SlotState::Rebuilding),
            waiting: ledger.waiting(),
            rebuilt,
        });
    }

    /// Serves no more: everything is that successor's.
    pub fn succeed(&mut self, heir: Heir) {
        self.heir = Some(heir);
        self.stopping = true;
    }

    /// Whether that has happened.
    pub const fn is_succeeded(&self) -> bool {
        self.heir.is_some()
    }

    /// Takes leave: where nobody takes over, names are taken away, those who wait are told, and the socket goes too. Leases
    /// stay. Gives the successor, and what names lead to: to be held until it leads them to itself, and not closed, as what
    /// this process opens next would have the same numbers.
    pub fn farewell(mut self) -> Option<(Heir, Vec<OwnedFd>)> {
        if let Some(heir) = self.heir.take() {
            let slots = SlotId::first(self.ledger.slots()).zip(self.netns);
            let shown = slots.filter_map(|(slot, netns)| netns.filter(|_| self.publisher.is_shown(slot)));
            return Some((heir, shown.collect()));
        }
        if !self.leave_with_manager() {
            let waiting: Vec<_> = self.ledger.waiting_requests().collect();
            for (holder, ticket) in waiting {
                self.refuse_shutting_down(holder, ticket);
            }
            self.listener.close();
        }
        self.publisher.close();
        None
    }
}

/// An fd to give up when there are no others.
pub(super) fn spare_fd() -> Option<OwnedFd> {
    File::open("/dev/null").map(OwnedFd::from).ok()
}
