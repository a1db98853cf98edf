//! The sockets of a trace, and reading them in the order in which frames passed; what becomes of the frames, the caller says.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::order::Order;
use super::select::Mine;
use super::{Hook, Seen};
use crate::address::inside;
use crate::limits::{TRACE_BUFFER_BYTES, TRACE_FRAMES_PER_TURN};
use crate::slot::IfIndex;
use crate::sys::netns;
use crate::sys::packet::{self, PacketError, PacketSocket, Read};

/// Why nothing can be watched any more.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A socket.
    #[error("hook {}: {error}", .hook.name())]
    Packet {
        /// Where.
        hook: Hook,
        /// The kernel's word.
        error: PacketError,
    },
    /// The slot's namespace.
    #[error("setns to the slot's namespace: {0}")]
    Namespace(Errno),
    /// Waiting for frames.
    #[error("poll: {0}")]
    Poll(Errno),
}

/// Bytes of a frame that say whose it is: Ethernet, IPv6, UDP and Geneve with all its options, then Ethernet and IPv6.
const SELECT_BYTES: usize = 14 + 40 + 8 + 8 + 252 + 14 + 40;

/// What is to be watched.
#[derive(Debug)]
pub struct Places<'a> {
    /// The slot's namespace.
    pub netns: BorrowedFd<'a>,
    /// The tap in it.
    pub tap: IfIndex,
    /// Whether the slot has a tunnel device.
    pub tunnel: bool,
    /// The device towards the network, in the caller's namespace; `None` = there is none to watch.
    pub uplink: Option<IfIndex>,
    /// What is the slot's there.
    pub mine: Mine,
}

/// Whether a hook can still give frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All are there.
    No,
    /// A device of the slot was deleted, or the uplink.
    Gone(Hook),
}

/// Open sockets at the hooks of a slot.
#[derive(Debug)]
pub struct Watch {
    places: Vec<Place>,
    mine: Mine,
    order: Order,
    snaplen: usize,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Place {
    hook: Hook,
    socket: PacketSocket,
    given: u64,
    lost: u64,
}

impl Watch {
    /// Opens the sockets; of each frame `snaplen` bytes are kept.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn open(places: Places<'_>, snaplen: usize) -> Result<Self, TraceError> {
        let Places { netns, tap, tunnel, uplink, mine } = places;
        let open = |hook, index, filter: Option<&_>| match PacketSocket::open(index, filter, TRACE_BUFFER_BYTES) {
            Ok(socket) => Ok(Place { hook, socket, given: 0, lost: 0 }),
            Err(error) => Err(TraceError::Packet { hook, error }),
        };
        // A packet socket stays in the namespace in which it was opened.
        let devices = [(Hook::Guest, tap), (Hook::Slot, IfIndex(inside::UP_INDEX))].into_iter();
        let devices = devices.chain(tunnel.then_some((Hook::Tunnel, IfIndex(inside::TUNNEL_INDEX))));
        let inside = netns::within(netns, || devices.map(|(hook, index)| open(hook, index, None)).collect::<Vec<_>>());
        let mut places = Vec::new();
        for place in inside.map_err(TraceError::Namespace)? {
            places.push(place?);
        }
        if let Some(uplink) = uplink {
            places.push(open(Hook::Uplink, uplink, Some(&mine.filter()[..]))?);
        }
        if !packet::wait_for_dates() {
            log::debug!("whether the kernel dates frames yet is not known: the first may stand out of order");
        }
        Ok(Self { places, mine, order: Order::default(), snaplen, buffer: vec![0; snaplen.max(SELECT_BYTES)] })
    }

    /// What the slot has become known by on the uplink.
    ///
    /// # Errors
    /// [`TraceError::Packet`].
    pub fn select(&mut self, mine: Mine) -> Result<(), TraceError> {
        if self.mine != mine {
            for Place { hook, socket, .. } in self.places.iter().filter(|place| place.hook == Hook::Uplink) {
                let failed = |error| TraceError::Packet { hook: *hook, error };
                socket.set_filter(&mine.filter()).map_err(failed)?;
            }
            self.mine = mine;
        }
        Ok(())
    }

    /// Waits at most so long for frames, and gives those whose order is settled.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn round(&mut self, wait: Duration) -> Result<(Vec<Seen>, Ended), TraceError> {
        self.wait(if self.order.holds() { wait.min(Duration::from_millis(2)) } else { wait })?;
        self.order.begin(packet::now_ns());
        let mut ended = Ended::No;
        for place in &mut self.places {
            let failed = |error| TraceError::Packet { hook: place.hook, error };
            let mut last = None;
            for _ in 0..TRACE_FRAMES_PER_TURN {
                match place.socket.read(&mut self.buffer).map_err(failed)? {
                    Read::Nothing => {
                        last = None;
                        break;
                    }
                    Read::Gone => {
                        (last, ended) = (None, Ended::Gone(place.hook));
                        break;
                    }
                    Read::Frame(frame) => {
                        last = Some(frame.time_ns);
                        let kept = &self.buffer[..frame.bytes.min(self.buffer.len())];
                        if place.hook == Hook::Uplink && !self.mine.has(kept) {
                            continue;
                        }
                        place.given += 1;
                        self.order.push(Seen {
                            time_ns: frame.time_ns,
                            hook: place.hook,
                            direction: place.hook.direction(frame.outgoing),
                            length: frame.bytes + if frame.vlan.is_some() { 4 } else { 0 },
                            bytes: with_tag(&kept[..kept.len().min(self.snaplen)], frame.vlan),
                        });
                    }
                }
            }
            if let Some(last) = last {
                self.order.not_empty(last);
            }
            place.lost += u64::from(place.socket.lost().map_err(failed)?);
        }
        Ok((self.order.ready(), ended))
    }

    /// The frames that were held back, when there will be no other round.
    pub fn rest(&mut self) -> Vec<Seen> {
        self.order.rest()
    }

    /// The hooks that are watched, from the guest to the network.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        self.places.iter().map(|place| place.hook).collect()
    }

    /// For each hook: frames seen, and frames lost for want of room.
    #[must_use]
    pub fn counts(&self) -> Vec<(Hook, u64, u64)> {
        self.places.iter().map(|place| (place.hook, place.given, place.lost)).collect()
    }

    fn wait(&self, wait: Duration) -> Result<(), TraceError> {
        let mut polled: Vec<PollFd<'_>> =
            self.places.iter().map(|place| PollFd::new(place.socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(TraceError::Poll(errno)),
        }
    }
}

/// The frame as it was on the device: the kernel takes a VLAN tag out before sockets see it.
fn with_tag(frame: &[u8], vlan: Option<(u16, u16)>) -> Vec<u8> {
    match vlan {
        Some((protocol, tag)) if frame.len() >= 12 => {
            [&frame[..12], &protocol.to_be_bytes(), &tag.to_be_bytes(), &frame[12..]].concat()
        }
        Some(_) | None => frame.to_vec(),
    }
}
