//! nf_tables as nfnetlink carries it: the numbers of linux/netfilter/nf_tables.h, transactions, questions, and which
//! tables are netslot's own; pure, and knows no rule.

use nix::libc;

use super::batch::{Attributes, Batch, DUMP};
use super::read::{Attributes as Read, Message};

/// `NFNL_SUBSYS_NFTABLES`, the high byte of every message's type.
const SUBSYSTEM: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END` (linux/netfilter/nfnetlink.h).
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// `NFT_MSG_*`: the low byte of a message's type.
pub mod message {
    pub const NEW_TABLE: u8 = 0;
    pub const GET_TABLE: u8 = 1;
    pub const DELETE_TABLE: u8 = 2;
    pub const NEW_CHAIN: u8 = 3;
    pub const GET_CHAIN: u8 = 4;
    pub const NEW_RULE: u8 = 6;
    pub const GET_RULE: u8 = 7;
    pub const NEW_SET: u8 = 9;
    pub const GET_SET: u8 = 10;
    pub const NEW_ELEMENTS: u8 = 12;
    pub const GET_ELEMENTS: u8 = 13;
    pub const NEW_OBJECT: u8 = 18;
    pub const GET_OBJECT: u8 = 19;
    pub const NEW_FLOWTABLE: u8 = 22;
    pub const GET_FLOWTABLE: u8 = 23;
    /// Those that set counts and quotas back as they tell them: of objects since 4.10, of rules since 6.2, of elements
    /// since 6.5.
    pub const GET_OBJECT_RESET: u8 = 21;
    pub const GET_RULE_RESET: u8 = 25;
    pub const GET_ELEMENTS_RESET: u8 = 33;
}

/// `NFTA_TABLE_NAME`.
pub const TABLE_NAME: u16 = 1;
/// `NFTA_TABLE_USERDATA`.
pub const TABLE_USERDATA: u16 = 6;

/// Type of our entry in a table's user data, a list of type, length, value (libnftnl's `nftnl_udata`). nft has 0 for the
/// comment and the next few for its own version, and passes over what it does not know. 78 is `N`.
const USERDATA_MARK: u8 = 78;

/// Which rules a table is part of: their checksum, kept in the table's user data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; 16]);

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A table, as far as one must know it to replace it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its name, with the terminating zero as the kernel tells it.
    pub name: Vec<u8>,
    /// The rules it belongs to; `None` = not netslot's.
    pub mark: Option<Mark>,
}

impl Table {
    /// Reads a message of a dump of tables.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let (kind, family, attributes) = parts(message)?;
        if kind != message::NEW_TABLE {
            return None;
        }
        let find = |wanted| Read(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let mark = find(TABLE_USERDATA).and_then(mark_in);
        Some(Self { family, name: find(TABLE_NAME)?.to_vec(), mark })
    }
}

/// The mark in a table's user data.
fn mark_in(userdata: &[u8]) -> Option<Mark> {
    let ours = entries(userdata).find(|entry| entry[0] == USERDATA_MARK)?;
    ours[2..].try_into().ok().map(Mark)
}

/// The user data with that mark in place of any, or with none.
#[must_use]
pub fn with_mark(userdata: &[u8], mark: Option<Mark>) -> Vec<u8> {
    let mut marked: Vec<u8> = entries(userdata).filter(|entry| entry[0] != USERDATA_MARK).flatten().copied().collect();
    if let Some(Mark(mark)) = mark {
        marked.extend([USERDATA_MARK, 16]);
        marked.extend(mark);
    }
    marked
}

/// The entries of user data, each with its type and length; ends at the first that is cut short.
fn entries(mut userdata: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = 2 + usize::from(*userdata.get(1)?);
        let (entry, rest) = userdata.split_at_checked(length)?;
        userdata = rest;
        Some(entry)
    })
}

/// Kind, family and attributes of a message of nf_tables.
#[must_use]
pub fn parts<'a>(message: &Message<'a>) -> Option<(u8, u8, &'a [u8])> {
    let [kind, subsystem] = message.kind.to_le_bytes();
    let (header, attributes) = message.body.split_at_checked(4)?;
    (u16::from(subsystem) == SUBSYSTEM).then_some((kind, header[0], attributes))
}

/// Appends one message of nf_tables.
pub fn append(batch: &mut Batch, kind: u8, family: u8, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
    batch.message(SUBSYSTEM << 8 | u16::from(kind), flags, &header(family, 0), fill);
}

/// Begins a transaction; it is the batch's first message.
pub fn begin(batch: &mut Batch) {
    batch.message(BATCH_BEGIN, 0, &header(0, SUBSYSTEM), |_| ());
}

/// Ends it. The kernel answers what it refuses, and what asks for it: the message before this one does (an ACK of this
/// one comes from 6.10 on only).
pub fn end(batch: &mut Batch) {
    batch.acknowledge();
    batch.message(BATCH_END, 0, &header(0, SUBSYSTEM), |_| ());
}

/// Deletes a table, there or not, with all that is in it: made first, so that the deletion cannot fail. (An abort costs
/// a grace period, and would take the rest of the transaction with it.)
pub fn delete_table(batch: &mut Batch, table: &Table) {
    append(batch, message::NEW_TABLE, table.family, super::batch::CREATE, |a| {
        a.bytes(TABLE_NAME, &table.name);
    });
    append(batch, message::DELETE_TABLE, table.family, 0, |a| {
        a.bytes(TABLE_NAME, &table.name);
    });
}

/// Asks for everything of a kind, in all families.
pub fn dump(batch: &mut Batch, kind: u8) {
    append(batch, kind, 0, DUMP, |_| ());
}

/// Asks for the elements of a set, by `GET_ELEMENTS` or `GET_ELEMENTS_RESET`.
pub fn dump_elements(batch: &mut Batch, kind: u8, family: u8, table: &[u8], set: &[u8]) {
    append(batch, kind, family, DUMP, |a| {
        a.bytes(1, table).bytes(2, set); // NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET
    });
}

/// `struct nfgenmsg`: family, version, and the subsystem in network order.
fn header(family: u8, subsystem: u16) -> [u8; 4] {
    let [high, low] = subsystem.to_be_bytes();
    [family, 0, high, low]
}

/// The word for a family, as nft writes it.
#[must_use]
pub fn family_name(family: u8) -> &'static str {
    match i32::from(family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        libc::NFPROTO_ARP => "arp",
        libc::NFPROTO_BRIDGE => "bridge",
        libc::NFPROTO_NETDEV => "netdev",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::read::Messages;

    const MARK: Mark = Mark(*b"0123456789abcdef");

    #[test]
    fn a_mark_stands_beside_a_comment_and_replaces_an_older_one() {
        let comment = [0, 6, b'h', b'e', b'l', b'l', b'o', 0];
        let marked = with_mark(&comment, Some(Mark([9; 16])));
        let marked = with_mark(&marked, Some(MARK));
        assert_eq!(marked, [&comment[..], &[78, 16], b"0123456789abcdef"].concat());
        assert_eq!(mark_in(&marked), Some(MARK));
        assert_eq!(with_mark(&marked, None), comment);
    }

    #[test]
    fn user_data_that_is_cut_short_has_no_mark() {
        for userdata in [&[][..], &[78], &[78, 16, 1, 2], &[78, 2, 1, 2], &[0, 200, 1]] {
            assert_eq!(mark_in(userdata), None, "{userdata:?}");
        }
    }

    #[test]
    fn a_table_is_read_from_what_is_written() {
        let mut batch = Batch::new();
        append(&mut batch, message::NEW_TABLE, 1, 0, |a| {
            a.bytes(TABLE_NAME, b"filter\0").bytes(TABLE_USERDATA, &with_mark(&[], Some(MARK)));
        });
        let message = Messages(batch.as_bytes()).next().expect("one").expect("well-formed");
        let table = Table { family: 1, name: b"filter\0".to_vec(), mark: Some(MARK) };
        assert_eq!(Table::read(&message), Some(table));
    }

    #[test]
    fn a_transaction_begins_and_ends_with_the_subsystem_in_network_order() {
        let mut batch = Batch::new();
        begin(&mut batch);
        end(&mut batch);
        let expected = [
            &[20, 0, 0, 0, 0x10, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10][..],
            &[20, 0, 0, 0, 0x11, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        ];
        assert_eq!(batch.as_bytes(), expected.concat());
    }
}
