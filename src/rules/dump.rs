//! What nf_tables has in a namespace, as the kernel dumps it; the socket is handed in, nothing is judged.

use super::object::Object;
use crate::netlink::nft::{self, Table, message};
use crate::netlink::read::Message;
use crate::netlink::{Batch, Socket, SocketError};

/// Everything that nf_tables has in the socket's namespace.
///
/// # Errors
/// [`SocketError`].
pub fn dump(socket: &mut Socket) -> Result<Vec<Object>, SocketError> {
    let mut all = Vec::new();
    for kind in [
        message::GET_TABLE,
        message::GET_CHAIN,
        message::GET_SET,
        message::GET_OBJECT,
        message::GET_FLOWTABLE,
        message::GET_RULE,
    ] {
        all.extend(socket.dump(|batch| nft::dump(batch, kind), object)?);
    }
    let sets: Vec<Object> = all.iter().filter(|o| o.kind == message::NEW_SET).cloned().collect();
    for set in sets {
        let (table, name) = (set.attribute(1), set.attribute(2));
        all.extend(
            socket.dump(|batch| nft::dump_elements(batch, message::GET_ELEMENTS, set.family, table, name), object)?,
        );
    }
    Ok(all)
}

/// Sets every count and quota in the socket's namespace back to its beginning, but for those of chains' policies.
///
/// # Errors
/// [`SocketError::Refused`] with EINVAL where the kernel is too old for it.
pub fn reset(socket: &mut Socket) -> Result<(), SocketError> {
    for kind in [message::GET_OBJECT_RESET, message::GET_RULE_RESET] {
        socket.dump(|batch| nft::dump(batch, kind), |_| Some(()))?;
    }
    for set in socket.dump(|batch| nft::dump(batch, message::GET_SET), object)? {
        let (table, name) = (set.attribute(1), set.attribute(2));
        let ask = |batch: &mut Batch| nft::dump_elements(batch, message::GET_ELEMENTS_RESET, set.family, table, name);
        socket.dump(ask, |_| Some(()))?;
    }
    Ok(())
}

fn object(message: &Message<'_>) -> Option<Object> {
    let (kind, family, attributes) = nft::parts(message)?;
    Some(Object { kind, family, attributes: attributes.to_vec() })
}

/// The tables of a namespace that are netslot's.
///
/// # Errors
/// [`SocketError`].
pub fn own_tables(socket: &mut Socket) -> Result<Vec<Table>, SocketError> {
    let mut tables = socket.dump(|batch| nft::dump(batch, message::GET_TABLE), Table::read)?;
    tables.retain(|table| table.mark.is_some());
    tables.sort();
    Ok(tables)
}
