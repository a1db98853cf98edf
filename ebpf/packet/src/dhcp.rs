//! The answer to a guest's DHCP request (RFC 2131, RFC 6842), made from the config alone: there is one guest, one
//! address and no pool, so there is nothing to remember.

use netslot_abi::{ConfigRecord, DHCP_OPTIONS_BYTES};

use crate::DropReason;
use crate::checksum;
use crate::frame::Frame;
use crate::headers::{protocol, same6, v4};

/// Longest client identifier that is given back; a longer one is not. Clients send 7 (type and MAC) to 27 bytes
/// (networkd's DUID), RFC 4361 has at most 5 + 130.
pub const CLIENT_ID_MAX: usize = 64;

/// Options looked at in a request; dhclient, dhcpcd, udhcpc, networkd and Windows send 5 to 12, and pad bytes count.
const OPTIONS_MAX: u32 = 40;

const ETHERNET: usize = 0;
const IP: usize = 14;
const UDP: usize = 34;
const BOOTP: usize = 42;
const COOKIE: usize = BOOTP + 236;
const KIND: usize = COOKIE + 4;
const LEASE: usize = KIND + 3;
const STATIC: usize = LEASE + 6;
const CLIENT_ID: usize = STATIC + DHCP_OPTIONS_BYTES;
const END: usize = CLIENT_ID + 2 + CLIENT_ID_MAX;

/// Bytes of every reply: each option has a fixed place, and an absent one is as many pad bytes, so that no length in
/// the reply depends on the request.
pub const REPLY_BYTES: usize = END + 1;

/// Bytes of the first static option, the server's address: the only one that a refusal may carry.
const SERVER_OPTION_BYTES: usize = 6;

const _: () = assert!(REPLY_BYTES - IP <= 576, "what every client must take (RFC 2131 section 2)");

/// Kinds of message, option 53.
mod kind {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const INFORM: u8 = 8;
}

/// What matters of a request. A program keeps it in a map, not on its stack: what comes out of a map the verifier knows
/// nothing about, so that it need not tell apart all the ways through the options that led there.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Request {
    /// Transaction.
    pub xid: [u8; 4],
    /// First byte of the flags: the highest bit asks for a broadcast answer.
    pub flags: u8,
    /// The address the client uses already.
    pub ciaddr: [u8; 4],
    /// The relay that passed it on.
    pub giaddr: [u8; 4],
    /// Option 53.
    pub kind: u8,
    /// Option 50: the address the client wants.
    pub wanted: [u8; 4],
    /// Option 54: the server the client chose.
    pub server: [u8; 4],
    /// Where option 61 has its bytes.
    pub client_id_at: u32,
    /// And how many: 0 = none, or more than are given back.
    pub client_id_len: u32,
}

const NONE: [u8; 4] = [0; 4];

/// Reads the request whose BOOTP header is at `at`.
///
/// # Errors
/// `Malformed`, `SourceMac` where it asks for another's MAC, `DhcpUnanswered` where it is no DHCP request.
#[inline(always)]
pub fn request<F: Frame>(frame: &F, at: u32, config: &ConfigRecord, request: &mut Request) -> Result<(), DropReason> {
    let h = frame.load::<[u8; 34]>(at).ok_or(DropReason::Malformed)?;
    let cookie = frame.load::<[u8; 4]>(at + 236).ok_or(DropReason::Malformed)?;
    // A request, on Ethernet, with six-byte addresses.
    if h[0] != 1 || h[1] != 1 || h[2] != 6 || v4(cookie) != v4([0x63, 0x82, 0x53, 0x63]) {
        return Err(DropReason::DhcpUnanswered);
    }
    if !same6([h[28], h[29], h[30], h[31], h[32], h[33]], config.guest_mac) {
        return Err(DropReason::SourceMac);
    }
    request.xid = [h[4], h[5], h[6], h[7]];
    request.flags = h[10];
    request.ciaddr = [h[12], h[13], h[14], h[15]];
    request.giaddr = [h[24], h[25], h[26], h[27]];
    request.kind = 0;
    request.wanted = NONE;
    request.server = NONE;
    request.client_id_at = 0;
    request.client_id_len = 0;
    let mut option = at + 240;
    for _ in 0..OPTIONS_MAX {
        let Some([code]) = frame.load::<[u8; 1]>(option) else { break };
        if code == 255 {
            break;
        }
        if code == 0 {
            option += 1;
            continue;
        }
        let Some([len]) = frame.load::<[u8; 1]>(option + 1) else { break };
        match (code, len) {
            (53, 1) => [request.kind] = frame.load::<[u8; 1]>(option + 2).ok_or(DropReason::Malformed)?,
            (50, 4) => request.wanted = frame.load::<[u8; 4]>(option + 2).ok_or(DropReason::Malformed)?,
            (54, 4) => request.server = frame.load::<[u8; 4]>(option + 2).ok_or(DropReason::Malformed)?,
            (61, 2..=64) => {
                request.client_id_at = option + 2;
                request.client_id_len = len as u32;
            }
            _ => {}
        }
        option += 2 + len as u32;
    }
    Ok(())
}

/// What a request is answered with; `None` = nothing (another server was chosen, or there is nothing to say).
#[inline(always)]
fn answer(request: &Request, config: &ConfigRecord) -> Option<u8> {
    let other = |address: [u8; 4]| v4(address) != v4(NONE) && v4(address) != v4(config.guest_v4);
    match request.kind {
        kind::DISCOVER => Some(kind::OFFER),
        kind::REQUEST if v4(request.server) != v4(NONE) && v4(request.server) != v4(config.gateway_v4) => None,
        // A clone that wakes with another slot kind's lease asks for an address that is not to be had here.
        kind::REQUEST if other(request.wanted) || other(request.ciaddr) => Some(kind::NAK),
        kind::REQUEST => Some(kind::ACK),
        kind::INFORM => Some(kind::ACK),
        _ => None,
    }
}

/// Writes the answer to `request` as a whole Ethernet frame; the caller fills in the client identifier, which it alone
/// can copy, with [`client_id`].
///
/// The UDP checksum is 0, "none": every client takes that, and one that is half computed is what breaks them.
///
/// # Errors
/// `DhcpUnanswered` where there is nothing to say.
#[inline(always)]
pub fn reply(request: &Request, config: &ConfigRecord, out: &mut [u8; REPLY_BYTES]) -> Result<(), DropReason> {
    let Some(answer) = answer(request, config) else { return Err(DropReason::DhcpUnanswered) };
    let refused = answer == kind::NAK;
    let inform = request.kind == kind::INFORM;
    let broadcast = refused || request.flags & 0x80 != 0;
    let yours = if refused || inform { NONE } else { config.guest_v4 };
    let to = if broadcast {
        [255; 4]
    } else if v4(request.ciaddr) == v4(NONE) {
        config.guest_v4
    } else {
        request.ciaddr
    };

    *out = [0; REPLY_BYTES];
    put(out, ETHERNET, &if broadcast { [255; 6] } else { config.guest_mac });
    put(out, ETHERNET + 6, &config.gateway_mac);
    put(out, ETHERNET + 12, &[0x08, 0x00]);
    put(out, IP, &ip_header(config.gateway_v4, to));
    put(out, UDP, &[0, 67, 0, 68]);
    put(out, UDP + 4, &UDP_BYTES.to_be_bytes());
    put(out, BOOTP, &[2, 1, 6, 0]);
    put(out, BOOTP + 4, &request.xid);
    put(out, BOOTP + 10, &[request.flags & 0x80]);
    put(out, BOOTP + 12, &if refused { NONE } else { request.ciaddr });
    put(out, BOOTP + 16, &yours);
    put(out, BOOTP + 24, &request.giaddr);
    put(out, BOOTP + 28, &config.guest_mac);
    put(out, COOKIE, &[0x63, 0x82, 0x53, 0x63]);
    put(out, KIND, &[53, 1, answer]);
    if !refused && !inform {
        put(out, LEASE, &[51, 4]);
        put(out, LEASE + 2, &config.dhcp_lease_s.to_be_bytes());
    }
    if refused {
        let o = &config.dhcp_options;
        put::<SERVER_OPTION_BYTES>(out, STATIC, &[o[0], o[1], o[2], o[3], o[4], o[5]]);
    } else {
        put(out, STATIC, &config.dhcp_options);
    }
    out[END] = 255;
    Ok(())
}

/// Gives back the request's client identifier (RFC 6842).
///
/// # Errors
/// `Malformed` where the packet ends before it.
#[inline(always)]
pub fn client_id<F: Frame>(frame: &F, request: &Request, out: &mut [u8; REPLY_BYTES]) -> Result<(), DropReason> {
    let len = request.client_id_len;
    if len == 0 {
        return Ok(());
    }
    let place = out[CLIENT_ID + 2..].first_chunk_mut::<CLIENT_ID_MAX>().ok_or(DropReason::Malformed)?;
    frame.load_some(request.client_id_at, len, place).ok_or(DropReason::Malformed)?;
    let [length, ..] = len.to_le_bytes();
    put(out, CLIENT_ID, &[61, length]);
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // a constant below 576
const IP_BYTES: u16 = (REPLY_BYTES - IP) as u16;
const UDP_BYTES: u16 = IP_BYTES - 20;

#[inline(always)]
fn ip_header(from: [u8; 4], to: [u8; 4]) -> [u8; 20] {
    let [len_high, len_low] = IP_BYTES.to_be_bytes();
    let ([f0, f1, f2, f3], [t0, t1, t2, t3]) = (from, to);
    let mut h = [0x45, 0, len_high, len_low, 0, 0, 0x40, 0, 64, protocol::UDP, 0, 0, f0, f1, f2, f3, t0, t1, t2, t3];
    [h[10], h[11]] = checksum::of_header(h);
    h
}

/// Copies `bytes` to the constant place `at`.
#[inline(always)]
fn put<const N: usize>(out: &mut [u8; REPLY_BYTES], at: usize, bytes: &[u8; N]) {
    if let Some(place) = out.get_mut(at..at + N) {
        place.copy_from_slice(bytes);
    }
}
