//! A holder as the loop knows it: its connection, and the process behind it; it does nothing with either.

use std::os::fd::OwnedFd;

use super::conversation::Conversation;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub socket: OwnedFd,
    /// Which of the connections that have had its holder's number.
    pub serial: u64,
    pub uid: u32,
    pub talk: Conversation,
    /// Stands in the queue of those that may have something to say.
    pub queued: bool,
}

/// A holder as the loop knows it: its connection while there is one, its process while something depends on it.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub connection: Option<Connection>,
    pub process: Option<OwnedFd>,
    /// The poll looks after the process.
    pub watched: bool,
}
