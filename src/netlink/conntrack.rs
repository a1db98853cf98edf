//! Connection tracking as nfnetlink carries it: the one request to forget all connections of a namespace; pure.

use super::batch::Batch;

/// `NFNL_SUBSYS_CTNETLINK` in the high byte, `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;

/// Forgets every connection of the socket's namespace, with what is expected of each.
pub fn flush(batch: &mut Batch) {
    // struct nfgenmsg: any family. Without a tuple, all are meant (ctnetlink_del_conntrack).
    batch.message(DELETE, 0, &[0; 4], |_| ());
}
