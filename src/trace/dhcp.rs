//! A DHCP message in a few words; pure, takes any bytes.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::slot::Mac;

/// Where the options begin: after the fixed fields and the cookie (RFC 2131, 2).
const OPTIONS: usize = 240;

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// The message, by what matters in it: kind, whose, which addresses.
#[must_use]
pub fn summary(message: &[u8]) -> String {
    let address = |at: usize| message.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().map(Ipv4Addr::from);
    let (Some(own), Some(given), Some(mac)) = (address(12), address(16), message.get(28..34)) else {
        return "DHCP [cut short]".into();
    };
    let mut text = String::from("DHCP ");
    let cookie = message.get(OPTIONS - 4..OPTIONS) == Some(&COOKIE);
    let options = message.get(OPTIONS..).filter(|_| cookie).unwrap_or_default();
    match option(options, 53) {
        Some(&[kind, ..]) => text += kind_name(kind),
        Some([]) | None => text += "without a message type",
    }
    let mac = Mac(<[u8; 6]>::try_from(mac).expect("six bytes"));
    let mut add = |words: std::fmt::Arguments<'_>| {
        // A String takes everything.
        let _ = text.write_fmt(words);
    };
    add(format_args!(" of {mac}"));
    if !own.is_unspecified() {
        add(format_args!(", has {own}"));
    }
    if let Some(wanted) = option(options, 50).and_then(|bytes| bytes.first_chunk::<4>()) {
        add(format_args!(", wants {}", Ipv4Addr::from(*wanted)));
    }
    if !given.is_unspecified() {
        add(format_args!(", gets {given}"));
    }
    if let Some(seconds) = option(options, 51).and_then(|bytes| bytes.first_chunk::<4>()) {
        add(format_args!(" for {} s", u32::from_be_bytes(*seconds)));
    }
    text
}

/// The first option of that code.
fn option(mut options: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [found, length, rest @ ..] => {
                let value = rest.get(..usize::from(*length))?;
                if *found == code {
                    return Some(value);
                }
                options = &rest[value.len()..];
            }
        }
    }
}

const fn kind_name(kind: u8) -> &'static str {
    match kind {
        1 => "discover",
        2 => "offer",
        3 => "request",
        4 => "decline",
        5 => "ack",
        6 => "nak",
        7 => "release",
        8 => "inform",
        _ => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(own: [u8; 4], given: [u8; 4], options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[12..16].copy_from_slice(&own);
        bytes[16..20].copy_from_slice(&given);
        bytes[28..34].copy_from_slice(&[6, 0, 0xac, 0x10, 0, 2]);
        [&bytes[..], &COOKIE, options, &[255]].concat()
    }

    #[test]
    fn a_message_says_its_kind_and_addresses() {
        let guest = [172, 16, 0, 2];
        for (bytes, text) in [
            (message([0; 4], [0; 4], &[0, 53, 1, 1]), "DHCP discover of 06:00:ac:10:00:02"),
            (
                message([0; 4], [0; 4], &[53, 1, 3, 50, 4, 172, 16, 0, 2]),
                "DHCP request of 06:00:ac:10:00:02, wants 172.16.0.2",
            ),
            (message(guest, [0; 4], &[53, 1, 3]), "DHCP request of 06:00:ac:10:00:02, has 172.16.0.2"),
            (
                message([0; 4], guest, &[53, 1, 5, 51, 4, 0, 0, 14, 16]),
                "DHCP ack of 06:00:ac:10:00:02, gets 172.16.0.2 for 3600 s",
            ),
            (message([0; 4], [0; 4], &[53, 200, 1]), "DHCP without a message type of 06:00:ac:10:00:02"),
            (vec![0; 20], "DHCP [cut short]"),
        ] {
            assert_eq!(summary(&bytes), text);
        }
    }
}
