//! Requests in, replies out; part of the [`Daemon`].

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use netslot_abi::SlotState;
use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::frame::{self, Header};
use netslot_protocol::limits::RECORD_BYTES;
use netslot_protocol::request::{self, Call, Request};
use netslot_protocol::{LeaseId, Text, VERSION_MAX, choose_version, reply};
use nix::errno::Errno;
use zerocopy::IntoBytes as _;

use super::answer;
use super::conversation::{Heard, ROOM_BYTES};
use super::daemon::Daemon;
use super::worker::{Asker, Job};
use crate::config::Tunnel;
use crate::ledger::{self, HolderId, Lease, Outcome, Policy, Reason};
use crate::limits::READS_PER_TURN;
use crate::slot::SlotId;
use crate::sys::seqpacket;

/// The daemon's name in hello and status.
const SERVER: &str = concat!("netslot ", env!("CARGO_PKG_VERSION"));

/// What of a request is needed to answer it later, in the ledger's ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket {
    id: u32,
    version: u16,
    want_netns: bool,
    want_tap: bool,
}

impl Ticket {
    const fn pack(self) -> u64 {
        (self.id as u64) << 32 | (self.version as u64) << 16 | (self.want_netns as u64) | (self.want_tap as u64) << 1
    }

    fn unpack(packed: u64) -> Self {
        let low = |shift: u32, mask: u64| packed >> shift & mask;
        Self {
            id: u32::try_from(packed >> 32).expect("32 bits"),
            version: u16::try_from(low(16, 0xffff)).expect("16 bits"),
            want_netns: low(0, 1) == 1,
            want_tap: low(1, 1) == 1,
        }
    }
}

impl Daemon {
    /// Reads what a connection has to say, up to its share of the turn.
    pub fn converse(&mut self, holder: HolderId) {
        if let Some(connection) = self.connection_mut(holder) {
            connection.queued = false;
        }
        let mut room = [0; ROOM_BYTES];
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connection(holder).filter(|c| !c.talk.busy && !c.talk.closing) else { return };
            match seqpacket::receive(&connection.socket, &mut room) {
                Ok(received) => match connection.talk.hear(received, &room) {
                    Heard::Request(header, request) => self.request(holder, header, &request),
                    Heard::Refused(header, refusal) => {
                        self.refuse(holder, header.id, header.version, &refusal);
                        if refusal.code.closes() {
                            self.close(holder);
                        }
                    }
                    Heard::End => self.close(holder),
                },
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // It has closed, and left something unread. What it sent before is still to be read, and done.
                Err(Errno::ECONNRESET) => {
                    if let Some(connection) = &self.peers[holder.index()].connection {
                        self.undo.extend_from_slice(connection.talk.never_read());
                    }
                }
                Err(errno) => {
                    log::debug!("recvmsg from uid {}: {errno}", connection.uid);
                    self.close(holder);
                }
            }
            self.settle();
        }
        self.enqueue(holder.index());
    }

    fn request(&mut self, holder: HolderId, header: Header, request: &Request) {
        match request {
            Request::Hello(ask) => self.hello(holder, header, ask),
            Request::Lease(ask) => self.lease(holder, header, ask),
            Request::Bind(ask) => self.bind(holder, header, ask),
            Request::Unbind(ask) => {
                let done = |daemon: &mut Self, lease, uid| daemon.ledger.unbind(lease, uid);
                self.of_a_lease::<request::Unbind>(holder, header, ask.lease, done);
            }
            Request::Release(ask) => {
                let done = |daemon: &mut Self, lease, uid| daemon.ledger.release(lease, uid, &mut daemon.fx);
                self.of_a_lease::<request::Release>(holder, header, ask.lease, done);
            }
            Request::Get(ask) => self.get(holder, header, *ask),
            Request::List(_) => self.list(holder, header),
            Request::Status(_) => self.status(holder, header),
            Request::Watch(_) => self.watch(holder, header),
        }
    }

    fn hello(&mut self, holder: HolderId, header: Header, ask: &request::Hello) {
        // The request was read, so there is one; its own version is any.
        let version = choose_version(ask.version_min, ask.version_max).unwrap_or(VERSION_MAX);
        let reply = reply::Hello { version, server: Text::cut(SERVER), pool: self.pool };
        let header = Header { version: if header.is_spoken() { header.version } else { version }, ..header };
        self.reply::<request::Hello>(holder, header, &reply);
    }

    fn lease(&mut self, holder: HolderId, header: Header, ask: &request::Lease) {
        let ticket =
            Ticket { id: header.id, version: header.version, want_netns: ask.want_netns_fd, want_tap: ask.want_tap_fd };
        let policy = answer::policy(ask.policy);
        if policy == Policy::OnExit {
            self.watch_process(holder);
        }
        let request = ledger::Request {
            holder,
            ticket: ticket.pack(),
            count: ask.count,
            tag: answer::tag(&ask.tag),
            policy,
            own_stack: ask.own_stack,
            wait_ns: u64::from(ask.wait_ms) * 1_000_000,
        };
        self.ask(&request);
    }

    /// Asks the ledger, and answers where it can be answered now.
    pub fn ask(&mut self, request: &ledger::Request) {
        match self.ledger.lease(request, self.now_ns, &mut self.fx) {
            Ok(Outcome::Granted(grant)) => {
                self.grant.clear();
                self.grant.extend_from_slice(self.fx.leases(grant));
                self.answer_grant(request.holder, request.ticket);
            }
            Ok(Outcome::Waiting) => {}
            Err(why) => self.refuse_waiter(request.holder, request.ticket, why),
        }
    }

    /// Answers the request with that ticket by the leases in `grant`.
    pub fn answer_grant(&mut self, holder: HolderId, ticket: u64) {
        let ticket = Ticket::unpack(ticket);
        if ticket.want_tap {
            return self.order_taps(holder, ticket);
        }
        if !ticket.want_netns
            && let Err((slot, errno)) = self.show_grant()
        {
            self.undo.extend_from_slice(&self.grant);
            let path = self.publisher.path(slot);
            let what = format!("slot {slot} cannot be shown as {}: symlink: {errno}", path.display());
            log::warn!("{what}; the lease is refused");
            let refusal = Refusal::new(
                ErrorCode::Internal,
                format_args!("{what}; have that mended, or ask for the namespace's descriptor"),
            );
            return self.refuse(holder, ticket.id, ticket.version, &refusal);
        }
        let fds = if ticket.want_netns { Fds::Netns } else { Fds::None };
        self.send_grant(holder, ticket.id, ticket.version, fds);
    }

    /// Shows the leases in `grant` by name: all that their client gets, so they must be there when the reply is.
    fn show_grant(&mut self) -> Result<(), (SlotId, Errno)> {
        for lease in &self.grant {
            if let Some(netns) = &self.netns[lease.slot.index()] {
                self.publisher.show(lease.slot, netns.as_raw_fd()).map_err(|errno| (lease.slot, errno))?;
            }
        }
        Ok(())
    }

    /// Sends the leases in `grant`, with those fds.
    pub fn send_grant(&mut self, holder: HolderId, id: u32, version: u16, fds: Fds<'_>) {
        self.lease_reply.grants.clear();
        for lease in &self.grant {
            let grant = answer::grant(&self.config, *lease);
            self.lease_reply.grants.push(grant).expect("a lease is for no more slots than a reply holds");
        }
        let len = frame::write_reply::<request::Lease>(version, id, &self.lease_reply, &mut self.frame[..])
            .expect("every message fits a frame");
        let Self { ledger, grant, frame, netns, outbox, peers, undo, .. } = self;
        let connection = peers[holder.index()].connection.as_mut().filter(|connection| !connection.talk.closing);
        let Some(connection) = connection else { return undo.extend_from_slice(grant) };
        let (socket, bytes) = (&connection.socket, &frame[..len]);
        let netns = |lease: &Lease| netns[lease.slot.index()].as_ref().expect("a leased slot's is open").as_fd();
        let sent = match fds {
            Fds::None => outbox.send(socket, bytes, std::iter::empty(), grant),
            Fds::Netns => outbox.send(socket, bytes, grant.iter().map(netns), grant),
            Fds::These(fds) => outbox.send(socket, bytes, fds.iter().map(OwnedFd::as_fd), grant),
        };
        match sent {
            Ok(()) => {
                ledger.reply_left(grant);
                connection.talk.sent_grant(grant);
            }
            Err(errno) => {
                undo.extend_from_slice(grant);
                self.lost_touch(holder, errno);
            }
        }
    }

    fn order_taps(&mut self, holder: HolderId, ticket: Ticket) {
        let dup = |lease: &Lease| {
            let netns = self.netns[lease.slot.index()].as_ref().expect("a leased slot's is open");
            netns.try_clone().map_err(|error| (lease.slot, error))
        };
        let netns: Result<Vec<OwnedFd>, (SlotId, io::Error)> = self.grant.iter().map(dup).collect();
        match netns {
            Ok(netns) => {
                let (leases, want_netns) = (self.grant.clone(), ticket.want_netns);
                let header = Header { version: ticket.version, kind: 0, id: ticket.id };
                self.start_job(holder, header, |asker| Job::OpenTaps { asker, leases, netns, want_netns });
            }
            Err((slot, error)) => {
                self.undo.extend_from_slice(&self.grant);
                let refusal = Refusal::new(
                    ErrorCode::Internal,
                    format_args!("slot {slot}: fcntl(F_DUPFD_CLOEXEC) of its namespace: {error}; ask again"),
                );
                self.refuse(holder, ticket.id, ticket.version, &refusal);
            }
        }
    }

    fn bind(&mut self, holder: HolderId, header: Header, ask: &request::Bind) {
        if self.config.tunnel == Tunnel::Off {
            let detail = format_args!("this pool has no tunnels to bind a slot to (tunnel = \"off\")");
            return self.refuse(holder, header.id, header.version, &Refusal::new(ErrorCode::BadArgument, detail));
        }
        let binding = answer::binding(&ask.binding);
        let done = |daemon: &mut Self, lease, uid| daemon.ledger.bind(lease, uid, &binding);
        self.of_a_lease::<request::Bind>(holder, header, ask.lease, done);
    }

    /// Runs what concerns one lease, and answers.
    fn of_a_lease<C: Call<Reply = ()>>(
        &mut self,
        holder: HolderId,
        header: Header,
        id: LeaseId,
        done: impl FnOnce(&mut Self, Lease, u32) -> Result<(), ledger::Refusal>,
    ) {
        let Some(uid) = self.connection(holder).map(|connection| connection.uid) else { return };
        let lease = answer::lease(id);
        let outcome = lease.map_or(Err(ledger::Refusal::NoSuchSlot), |lease| done(self, lease, uid));
        match outcome {
            Ok(()) => self.reply::<C>(holder, header, &()),
            Err(why) => self.refuse(holder, header.id, header.version, &answer::refusal(why, lease)),
        }
    }

    fn get(&mut self, holder: HolderId, header: Header, ask: request::Get) {
        let found = SlotId::new(ask.slot).map(|slot| (slot, self.ledger.get(slot)));
        let Some((slot, Ok((record, binding)))) = found else {
            let refusal = answer::refusal(ledger::Refusal::NoSuchSlot, None);
            return self.refuse(holder, header.id, header.version, &refusal);
        };
        let mut detail = Text::default();
        if record.state() == Some(SlotState::Quarantined)
            && let Some(reason) = Reason::from_byte(record.reason)
        {
            let more = self.details.get(&slot).map_or("", String::as_str);
            let colon = if more.is_empty() { "" } else { ": " };
            write!(detail, "{reason}{colon}{more}").expect("a text takes what fits");
        }
        let bytes = answer::record(slot, record, binding);
        let mut reply = reply::Get { record: [0; RECORD_BYTES], detail };
        reply.record.copy_from_slice(bytes.as_bytes());
        self.reply::<request::Get>(holder, header, &reply);
    }

    fn status(&mut self, holder: HolderId, header: Header) {
        let mut states = [0; SlotState::ALL.len()];
        for state in SlotState::ALL {
            states[state as usize] = self.ledger.count(state);
        }
        // Records beyond what the pool may grow to, or is to have, say nothing about it.
        let unused = self.ledger.slots() - self.pool.slots_max.min(self.ledger.slots());
        states[SlotState::Building as usize] = states[SlotState::Building as usize].saturating_sub(unused);
        let reply = reply::Status {
            server: Text::cut(SERVER),
            pid: std::process::id(),
            uptime_ms: self.now_ns.saturating_sub(self.started_ns) / 1_000_000,
            slots: self.config.slots,
            states,
            waiters: self.ledger.waiting(),
            connections: self.ledger.connections(),
            leases_total: self.totals.leases,
            releases_total: self.totals.releases,
            empty_total: self.totals.empty,
        };
        self.reply::<request::Status>(holder, header, &reply);
    }

    /// Hands a connection's request to a worker, and reads nothing more of the connection until it is done.
    fn start_job(&mut self, holder: HolderId, header: Header, job: impl FnOnce(Asker) -> Job) {
        let Some(connection) = self.connection_mut(holder) else { return };
        connection.talk.busy = true;
        let asker = Asker { holder, serial: connection.serial, id: header.id, version: header.version };
        self.shop.queue.push(job(asker));
    }

    pub fn reply<C: Call>(&mut self, holder: HolderId, header: Header, reply: &C::Reply) {
        let len = frame::write_reply::<C>(header.version, header.id, reply, &mut self.frame[..])
            .expect("every message fits a frame");
        let sent = self.post(holder, len, std::iter::empty());
        self.after_sending(holder, sent);
    }

    pub fn refuse(&mut self, holder: HolderId, id: u32, version: u16, refusal: &Refusal) {
        let len = frame::write_refusal(version, id, refusal, &mut self.frame[..]).expect("every message fits a frame");
        let sent = self.post(holder, len, std::iter::empty());
        self.after_sending(holder, sent);
    }

    /// Refuses a lease request, at once or after it has waited.
    pub fn refuse_waiter(&mut self, holder: HolderId, ticket: u64, why: ledger::Refusal) {
        if matches!(why, ledger::Refusal::PoolEmpty | ledger::Refusal::WaitExpired) {
            self.totals.empty += 1;
        }
        let ticket = Ticket::unpack(ticket);
        self.refuse(holder, ticket.id, ticket.version, &answer::refusal(why, None));
    }

    pub fn refuse_shutting_down(&mut self, holder: HolderId, ticket: u64) {
        let ticket = Ticket::unpack(ticket);
        let detail = format_args!("the daemon is stopping; leases stay, and requests that wait are to be made again");
        self.refuse(holder, ticket.id, ticket.version, &Refusal::new(ErrorCode::ShuttingDown, detail));
    }

    /// Notes that something that is no grant has been sent, or could not be.
    pub fn after_sending(&mut self, holder: HolderId, sent: Result<(), Errno>) {
        match sent {
            Ok(()) => {
                if let Some(connection) = self.connection_mut(holder) {
                    connection.talk.sent_other();
                }
            }
            Err(errno) => self.lost_touch(holder, errno),
        }
    }

    /// A reply could not be sent. One that leaves as much unread as it may is not waited for.
    pub fn lost_touch(&mut self, holder: HolderId, errno: Errno) {
        // The kernel says once that it has closed with something unread, to whichever call comes first.
        if errno == Errno::ECONNRESET
            && let Some(connection) = &self.peers[holder.index()].connection
        {
            self.undo.extend_from_slice(connection.talk.never_read());
        }
        if let Some(connection) = self.connection(holder).filter(|connection| !connection.talk.closing) {
            let uid = connection.uid;
            if errno == Errno::EAGAIN {
                log::info!("a client of uid {uid} does not read its replies, and is disconnected");
            } else {
                log::debug!("sendmsg to a client of uid {uid}: {errno}");
            }
        }
        self.close(holder);
    }
}

/// What goes with a lease reply.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fds<'a> {
    /// Nothing.
    None,
    /// Each slot's namespace.
    Netns,
    /// These, in this order.
    These(&'a [OwnedFd]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_comes_back_whole() {
        for (id, version) in [(0, 0), (1, 1), (u32::MAX, u16::MAX), (0x1234_5678, 0xabcd)] {
            for (want_netns, want_tap) in [(false, false), (true, false), (false, true), (true, true)] {
                let ticket = Ticket { id, version, want_netns, want_tap };
                assert_eq!(Ticket::unpack(ticket.pack()), ticket);
            }
        }
    }
}
