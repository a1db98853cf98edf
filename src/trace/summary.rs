//! A frame as one line for people, close to what tcpdump prints; pure, takes any bytes, and says where they are cut short.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dhcp;
use super::headers::{self, Arp, Fragment, Ip, protocol};
use crate::slot::Mac;

/// Packets in packets that are looked into: a tunnel's, and what an error in it quotes.
const DEPTH_MAX: u8 = 3;

/// The line of a frame of which `length` bytes passed and `frame` are the first; `tunnel` is the UDP port of Geneve.
#[must_use]
pub fn line(frame: &[u8], length: usize, tunnel: u16) -> String {
    let mut line = Line { text: String::new(), tunnel, depth: 0 };
    line.frame(frame);
    if frame.len() < length {
        line.say(format_args!(" [{} of {length} bytes kept]", frame.len()));
    }
    line.text
}

struct Line {
    text: String,
    tunnel: u16,
    depth: u8,
}

impl Line {
    fn say(&mut self, words: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.text.write_fmt(words);
    }

    fn cut(&mut self) {
        self.say(format_args!(" [cut short]"));
    }

    /// What stands inside something else, unless that goes on for ever.
    fn inside(&mut self, work: impl FnOnce(&mut Self)) {
        if self.depth < DEPTH_MAX {
            self.depth += 1;
            work(self);
            self.depth -= 1;
        }
    }

    fn frame(&mut self, frame: &[u8]) {
        let Some((header, mut rest)) = frame.split_first_chunk::<14>() else {
            self.say(format_args!("{} bytes, no Ethernet header", frame.len()));
            return;
        };
        let mac = |at: usize| Mac(*header[at..].first_chunk().expect("six of fourteen bytes"));
        let mut kind = u16::from_be_bytes([header[12], header[13]]);
        // Guests may stack tags; a frame ends.
        while let (0x8100 | 0x88a8, [a, b, c, d, after @ ..]) = (kind, rest) {
            self.say(format_args!("VLAN {}: ", u16::from_be_bytes([*a, *b]) & 0xfff));
            (kind, rest) = (u16::from_be_bytes([*c, *d]), after);
        }
        match kind {
            0x0800 => self.ipv4(rest),
            0x86dd => self.ipv6(rest),
            0x0806 => self.arp(rest),
            ..=1_500 => self.say(format_args!("LLC, {kind} bytes, {} > {}", mac(6), mac(0))),
            _ => self.say(format_args!("ethertype {kind:#06x}, {} bytes, {} > {}", rest.len(), mac(6), mac(0))),
        }
    }

    fn arp(&mut self, bytes: &[u8]) {
        self.say(format_args!("ARP"));
        let Some(Arp { operation, mac, sender, target }) = headers::arp(bytes) else {
            return if bytes.len() < 28 {
                self.cut()
            } else {
                self.say(format_args!(" of other than Ethernet and IPv4"))
            };
        };
        match operation {
            1 if sender.is_unspecified() => self.say(format_args!(" who has {target}? a probe by {mac}")),
            1 => self.say(format_args!(" who has {target}? tell {sender}")),
            2 => self.say(format_args!(" {sender} is at {mac}")),
            other => self.say(format_args!(" operation {other}, {sender} to {target}")),
        }
    }

    fn ipv4(&mut self, bytes: &[u8]) {
        self.say(format_args!("IPv4"));
        self.packet(headers::ipv4(bytes));
    }

    fn ipv6(&mut self, bytes: &[u8]) {
        self.say(format_args!("IPv6"));
        self.packet(headers::ipv6(bytes));
    }

    fn packet(&mut self, ip: Option<Ip<'_>>) {
        let Some(Ip { from, to, protocol, payload, fragment, cut }) = ip else { return self.cut() };
        self.say(format_args!(" "));
        match (fragment, protocol) {
            (Some(Fragment { place: 1.., .. }), _) => self.say(format_args!("{from} > {to}: {}", name_of(protocol))),
            (_, protocol::TCP) => self.tcp(from, to, payload),
            (_, protocol::UDP) => self.udp(from, to, payload),
            (_, protocol::ICMP) => self.icmp(from, to, payload),
            (_, protocol::ICMPV6) => self.icmp6(from, to, payload),
            _ => self.say(format_args!("{from} > {to}: {}, {} bytes", name_of(protocol), payload.len())),
        }
        if let Some(Fragment { id, place, more }) = fragment {
            let more = if more { ", more to come" } else { ", the last" };
            self.say(format_args!(", fragment of {id:#x}: {place}-{}{more}", place + payload.len()));
        }
        if cut {
            self.cut();
        }
    }

    fn tcp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
        let Some(tcp) = headers::tcp(bytes) else {
            self.say(format_args!("{from} > {to}: TCP"));
            return self.cut();
        };
        self.ends(from, to, tcp.source, tcp.destination);
        let flags = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, '.')];
        let flags: String = flags.iter().filter(|(bit, _)| tcp.flags & bit != 0).map(|(_, letter)| letter).collect();
        self.say(format_args!("TCP [{flags}], seq {}", tcp.sequence));
        if tcp.flags & 16 != 0 {
            self.say(format_args!(", ack {}", tcp.acknowledgement));
        }
        self.say(format_args!(", win {}", tcp.window));
        if let Some(size) = tcp.mss {
            self.say(format_args!(", mss {size}"));
        }
        self.say(format_args!(", {} bytes", bytes.len() - tcp.bytes));
    }

    fn udp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
        let Some((&[a, b, c, d, high, low, _, _], payload)) = bytes.split_first_chunk() else {
            self.say(format_args!("{from} > {to}: UDP"));
            return self.cut();
        };
        let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        self.ends(from, to, source, destination);
        if destination == self.tunnel {
            self.geneve(payload);
        } else if matches!((source, destination), (68, 67) | (67, 68)) {
            self.text += &dhcp::summary(payload);
        } else {
            // What the sender says: a first fragment holds less.
            self.say(format_args!("UDP, {} bytes", u16::from_be_bytes([high, low]).saturating_sub(8)));
        }
    }

    fn geneve(&mut self, bytes: &[u8]) {
        self.say(format_args!("Geneve"));
        let Some(header) = bytes.first_chunk::<8>() else { return self.cut() };
        let options = usize::from(header[0] & 0x3f) * 4;
        self.say(format_args!(", VNI {}", u32::from_be_bytes([0, header[4], header[5], header[6]])));
        if options > 0 {
            self.say(format_args!(", {options} bytes of options"));
        }
        match (u16::from_be_bytes([header[2], header[3]]), bytes.get(8 + options..)) {
            (_, None) => self.cut(),
            (0x6558, Some(inner)) => self.inside(|line| {
                line.say(format_args!(": "));
                line.frame(inner);
            }),
            (other, Some(_)) => self.say(format_args!(", protocol {other:#06x}")),
        }
    }

    fn ends(&mut self, from: IpAddr, to: IpAddr, source: u16, destination: u16) {
        self.say(format_args!("{from}.{source} > {to}.{destination}: "));
    }

    fn icmp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
        self.say(format_args!("{from} > {to}: ICMP"));
        let Some(&[kind, code, _, _, a, b, c, d]) = bytes.first_chunk() else { return self.cut() };
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let quoted = &bytes[8..];
        match (kind, code) {
            (8, _) => self.say(format_args!(" echo request, id {high}, seq {low}, {} bytes", quoted.len())),
            (0, _) => self.say(format_args!(" echo reply, id {high}, seq {low}, {} bytes", quoted.len())),
            (3, 4) => self.quote(format_args!(" too large, mtu {low}"), quoted, Self::ipv4),
            (3, _) => self.quote(format_args!(" {} unreachable", unreachable4(code)), quoted, Self::ipv4),
            (5, _) => self.quote(format_args!(" redirect to {}", Ipv4Addr::new(a, b, c, d)), quoted, Self::ipv4),
            (11, _) => self.quote(format_args!(" time exceeded"), quoted, Self::ipv4),
            (12, _) => self.quote(format_args!(" parameter problem"), quoted, Self::ipv4),
            _ => self.say(format_args!(" type {kind}, code {code}, {} bytes", quoted.len())),
        }
    }

    fn icmp6(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
        self.say(format_args!("{from} > {to}: ICMPv6"));
        let Some(&[kind, code, _, _, a, b, c, d]) = bytes.first_chunk() else { return self.cut() };
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let rest = &bytes[8..];
        let target = rest.first_chunk().map_or(Ipv6Addr::UNSPECIFIED, |octets: &[u8; 16]| Ipv6Addr::from(*octets));
        match kind {
            128 => self.say(format_args!(" echo request, id {high}, seq {low}, {} bytes", rest.len())),
            129 => self.say(format_args!(" echo reply, id {high}, seq {low}, {} bytes", rest.len())),
            1 => self.quote(format_args!(" unreachable, code {code}"), rest, Self::ipv6),
            2 => self.quote(format_args!(" too large, mtu {}", u32::from_be_bytes([a, b, c, d])), rest, Self::ipv6),
            3 => self.quote(format_args!(" time exceeded"), rest, Self::ipv6),
            4 => self.quote(format_args!(" parameter problem"), rest, Self::ipv6),
            133 => self.say(format_args!(" router solicitation")),
            134 => self.say(format_args!(" router advertisement")),
            135 => self.say(format_args!(" who has {target}?")),
            136 => self.say(format_args!(" {target} is here")),
            137 => self.say(format_args!(" redirect to {target}")),
            143 => self.say(format_args!(" listener report")),
            _ => self.say(format_args!(" type {kind}, code {code}, {} bytes", rest.len())),
        }
    }

    fn quote(&mut self, words: std::fmt::Arguments<'_>, quoted: &[u8], read: fn(&mut Self, &[u8])) {
        self.say(words);
        let mut about = Self { text: String::new(), tunnel: self.tunnel, depth: self.depth };
        about.inside(|line| read(line, quoted));
        // An error quotes the beginning of a packet, which is no fault of the frame.
        let about = about.text.trim_end_matches(" [cut short]").to_owned();
        if !about.is_empty() {
            self.say(format_args!("; about {about}"));
        }
    }
}

fn name_of(protocol: u8) -> String {
    let known =
        [(1, "ICMP"), (2, "IGMP"), (4, "IPv4"), (6, "TCP"), (17, "UDP"), (41, "IPv6"), (47, "GRE"), (50, "ESP")];
    let rest = [(51, "AH"), (58, "ICMPv6"), (59, "nothing"), (89, "OSPF"), (112, "VRRP"), (132, "SCTP")];
    let mut all = known.iter().chain(&rest);
    all.find(|(number, _)| *number == protocol)
        .map_or_else(|| format!("protocol {protocol}"), |(_, name)| (*name).to_owned())
}

const fn unreachable4(code: u8) -> &'static str {
    match code {
        0 | 6 | 11 => "network",
        1 | 7 | 8 | 12 => "host",
        2 => "protocol",
        3 => "port",
        9 | 10 | 13 => "administratively",
        _ => "destination",
    }
}

#[cfg(test)]
mod tests;
