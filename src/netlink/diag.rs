//! TCP connections as sock_diag carries them: the question for those that only wait for their end, and the request to end
//! one; pure.

use nix::libc;

use super::batch::{Batch, DUMP};
use super::read::Message;

/// `SOCK_DIAG_BY_FAMILY`, linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`: refused where the kernel lacks CONFIG_INET_DIAG_DESTROY.
const DESTROY: u16 = 21;

/// `TCP_FIN_WAIT2` and `TCP_TIME_WAIT`: the states of a connection that no socket stands behind any more.
const WAITING: u32 = 1 << 5 | 1 << 6;

/// Bytes of `struct inet_diag_sockid`, which stands behind four others in question and answer.
const ID_BYTES: usize = 48;

/// A connection that waits for its end: its family, and what tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    family: u8,
    id: [u8; ID_BYTES],
}

/// Asks for all of that family in the socket's namespace. The kernel goes through the connections of all namespaces.
pub fn dump_waiting(batch: &mut Batch, family: libc::c_int) {
    let family = u8::try_from(family).expect("address families are small");
    batch.message(BY_FAMILY, DUMP, &request(&Waiting { family, id: [0; ID_BYTES] }), |_| ());
}

/// Ends it at once.
pub fn destroy(batch: &mut Batch, waiting: &Waiting) {
    batch.message(DESTROY, 0, &request(waiting), |_| ());
}

/// One that an answer tells of.
#[must_use]
pub fn waiting(message: &Message<'_>) -> Option<Waiting> {
    let id = message.body.get(4..4 + ID_BYTES)?.try_into().ok()?;
    (message.kind == BY_FAMILY).then_some(Waiting { family: message.body[0], id })
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, id.
fn request(waiting: &Waiting) -> [u8; 8 + ID_BYTES] {
    let mut request = [0; 8 + ID_BYTES];
    request[0] = waiting.family;
    request[1] = u8::try_from(libc::IPPROTO_TCP).expect("its number is 6");
    request[4..8].copy_from_slice(&WAITING.to_ne_bytes());
    request[8..].copy_from_slice(&waiting.id);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::read::Messages;

    #[test]
    fn what_is_told_of_is_what_is_ended() {
        let mut answer = Batch::new();
        let mut body = [0; 72]; // struct inet_diag_msg
        body[..2].copy_from_slice(&[2, 6]);
        body[4..52].fill(7);
        answer.message(BY_FAMILY, 0, &body, |_| ());
        answer.message(BY_FAMILY, 0, &body[..48], |_| ()); // cut off
        let told: Vec<Waiting> = Messages(answer.as_bytes()).filter_map(|m| waiting(&m.expect("whole"))).collect();
        assert_eq!(told, [Waiting { family: 2, id: [7; 48] }]);
        let mut batch = Batch::new();
        destroy(&mut batch, &told[0]);
        let request = Messages(batch.as_bytes()).next().expect("one").expect("whole");
        assert_eq!((request.kind, request.body.len()), (DESTROY, 56));
        assert_eq!((&request.body[..8], &request.body[8..]), (&[2, 6, 0, 0, 0x60, 0, 0, 0][..], &[7; 48][..]));
    }
}
