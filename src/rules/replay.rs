//! An image → the one transaction that makes its rules in a namespace, in place of those that are netslot's there; the
//! socket is handed in.

use crate::limits::RULES_BYTES_MAX;
use crate::netlink::batch::Attributes as Write;
use crate::netlink::nft::{self, Mark, TABLE_USERDATA, Table, message};
use crate::netlink::read::Attributes as Read;
use crate::netlink::{Batch, Refusal, Socket, SocketError};

use super::dump::{dump, own_tables};
use super::image::Image;
use super::normal::Ruleset;
use super::object::Object;
use super::used::{is_used, without_added};

/// Rules, ready to be made in any number of namespaces.
#[derive(Debug)]
pub struct Replay {
    rules: Ruleset,
    mark: Mark,
    tables: Vec<Table>,
    /// The transaction for a namespace that has none yet: the same bytes for all.
    fresh: Batch,
}

/// How a namespace's rules stand beside those that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The same, and no packet has met them.
    Same,
    /// The same, and packets were counted.
    Counted,
    /// The same, but for what packets have added to sets: here, first.
    Added(String),
    /// Others: this, first.
    Differ(String),
}

/// Why rules could not be made; the namespace has those that it had.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The kernel refused one of them.
    #[error("{object}: {refusal}")]
    Refused {
        /// Which, as people call it.
        object: String,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The transaction is past its bound.
    #[error("the rules come to {0} bytes in one transaction, and {RULES_BYTES_MAX} are the most: use smaller sets")]
    TooLarge(usize),
}

impl Replay {
    /// Makes the transaction.
    ///
    /// # Errors
    /// [`ReplayError::TooLarge`].
    pub fn new(image: &Image) -> Result<Self, ReplayError> {
        let mark = image.mark();
        let rules = image.rules.clone();
        let mut replay = Self { tables: rules.tables(mark), rules, mark, fresh: Batch::new() };
        replay.fresh = replay.transaction(&[]);
        let bytes = replay.fresh.as_bytes().len();
        if bytes > RULES_BYTES_MAX { Err(ReplayError::TooLarge(bytes)) } else { Ok(replay) }
    }

    /// No rules at all: replaces with nothing what is netslot's.
    #[must_use]
    pub fn nothing() -> Self {
        Self { rules: Ruleset::default(), mark: Mark([0; 16]), tables: Vec::new(), fresh: Batch::new() }
    }

    /// The tables that a namespace with these rules has.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Bytes of the transaction.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fresh.as_bytes().len()
    }

    /// Objects it makes.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.rules.objects().len()
    }

    /// Makes the rules in a namespace that has no table yet.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn make(&self, socket: &mut Socket) -> Result<(), ReplayError> {
        if self.rules.objects().is_empty() { Ok(()) } else { self.send(socket, &self.fresh, 0) }
    }

    /// Makes the rules in place of those that are there: all at once, no packet sees a part of them.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn replace(&self, socket: &mut Socket) -> Result<(), ReplayError> {
        let old = own_tables(socket)?;
        self.replace_those(socket, old)
    }

    /// Makes the rules in place of all that are there, netslot's or not.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn replace_all(&self, socket: &mut Socket) -> Result<(), ReplayError> {
        let old = socket.dump(|batch| nft::dump(batch, message::GET_TABLE), Table::read)?;
        self.replace_those(socket, old)
    }

    fn replace_those(&self, socket: &mut Socket, mut old: Vec<Table>) -> Result<(), ReplayError> {
        for table in &self.tables {
            if !old.iter().any(|o| (o.family, &o.name) == (table.family, &table.name)) {
                old.push(table.clone());
            }
        }
        if old.is_empty() { Ok(()) } else { self.send(socket, &self.transaction(&old), 2 * old.len()) }
    }

    /// How the rules in the socket's namespace, netslot's or not, stand beside these: rules, chains, sets and their
    /// elements, counts and quotas.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn compare(&self, socket: &mut Socket) -> Result<Standing, SocketError> {
        // Everything stands in tables: where there are to be none, there is nothing else to ask for.
        if self.tables.is_empty() && socket.dump(|batch| nft::dump(batch, message::GET_TABLE), Table::read)?.is_empty()
        {
            return Ok(Standing::Same);
        }
        let dump = dump(socket)?;
        let found = match Ruleset::of_dump(&dump) {
            Ok(found) => found,
            Err(error) => return Ok(Standing::Differ(error.to_string())),
        };
        let (wanted, there) = (self.rules.objects(), found.objects());
        let differs = |at: &usize| wanted.get(*at) != there.get(*at);
        let Some(at) = (0..wanted.len().max(there.len())).find(differs) else {
            return Ok(if is_used(&dump) { Standing::Counted } else { Standing::Same });
        };
        let what = if at < there.len() { found.name(at) } else { format!("{} is missing", self.rules.name(at)) };
        Ok(if without_added(wanted) == without_added(there) { Standing::Added(what) } else { Standing::Differ(what) })
    }

    /// What of the rules in the socket's namespace is not as these make it: the first such thing, as people call it.
    /// Counts and what was used of quotas are no difference, and [`Replay::replace`] sets those back.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn difference(&self, socket: &mut Socket) -> Result<Option<String>, SocketError> {
        Ok(match self.compare(socket)? {
            Standing::Same | Standing::Counted => None,
            Standing::Added(what) | Standing::Differ(what) => Some(what),
        })
    }

    /// `before`: messages of the transaction that stand before the rules.
    fn send(&self, socket: &mut Socket, transaction: &Batch, before: usize) -> Result<(), ReplayError> {
        let Some(refusal) = socket.transact(transaction)? else { return Ok(()) };
        // The transaction's beginning stands before all.
        let object = match refusal.index.checked_sub(1 + before) {
            Some(index) => self.rules.name(index),
            None => "the transaction".into(),
        };
        Err(ReplayError::Refused { object, refusal })
    }

    /// Deletes those tables, then makes the rules.
    fn transaction(&self, old: &[Table]) -> Batch {
        let mut batch = Batch::new();
        nft::begin(&mut batch);
        old.iter().for_each(|table| nft::delete_table(&mut batch, table));
        for object in self.rules.objects() {
            nft::append(&mut batch, object.kind, object.family, object.flags(), |a| {
                a.raw(&self.marked(object));
            });
        }
        nft::end(&mut batch);
        batch
    }

    fn marked(&self, object: &Object) -> Vec<u8> {
        if object.kind != message::NEW_TABLE {
            return object.attributes.clone();
        }
        let mut attributes = Vec::new();
        let mut write = Write::to(&mut attributes);
        let mut userdata = &[][..];
        for (kind, value) in Read(&object.attributes) {
            if kind == TABLE_USERDATA {
                userdata = value;
            } else {
                write.bytes(kind, value);
            }
        }
        write.bytes(TABLE_USERDATA, &nft::with_mark(userdata, Some(self.mark)));
        attributes
    }
}
