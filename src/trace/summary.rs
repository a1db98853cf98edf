//! A frame as one line for people, close to what tcpdump prints; pure, takes any bytes, and says where they are cut short.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpPacketSlice, EtherType, Ethernet2HeaderSlice, IpNumber, LaxIpv4Slice, LaxIpv6Slice, TcpHeaderSlice,
    TcpOptionElement, UdpHeaderSlice,
};

use super::dhcp;
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
        let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(frame) else {
            self.say(format_args!("{} bytes, no Ethernet header", frame.len()));
            return;
        };
        let (mut kind, mut rest) = (ethernet.ether_type(), &frame[14..]);
        // Guests may stack tags; a frame ends.
        while let (EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING, [a, b, c, d, after @ ..]) = (kind, rest)
        {
            self.say(format_args!("VLAN {}: ", u16::from_be_bytes([*a, *b]) & 0xfff));
            (kind, rest) = (EtherType(u16::from_be_bytes([*c, *d])), after);
        }
        match kind {
            EtherType::IPV4 => self.ipv4(rest),
            EtherType::IPV6 => self.ipv6(rest),
            EtherType::ARP => self.arp(rest),
            EtherType(length @ ..=1_500) => {
                self.say(format_args!(
                    "LLC, {length} bytes, {} > {}",
                    Mac(ethernet.source()),
                    Mac(ethernet.destination())
                ));
            }
            EtherType(other) => self.say(format_args!(
                "ethertype {other:#06x}, {} bytes, {} > {}",
                rest.len(),
                Mac(ethernet.source()),
                Mac(ethernet.destination())
            )),
        }
    }

    fn arp(&mut self, bytes: &[u8]) {
        self.say(format_args!("ARP"));
        let Ok(arp) = ArpPacketSlice::from_slice(bytes) else { return self.cut() };
        let v4 = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from);
        let mac = <[u8; 6]>::try_from(arp.sender_hw_addr()).map(Mac);
        let (Ok(sender), Ok(target), Ok(mac)) = (v4(arp.sender_protocol_addr()), v4(arp.target_protocol_addr()), mac)
        else {
            return self.say(format_args!(" of other than Ethernet and IPv4"));
        };
        match arp.operation().0 {
            1 if sender.is_unspecified() => self.say(format_args!(" who has {target}? a probe by {mac}")),
            1 => self.say(format_args!(" who has {target}? tell {sender}")),
            2 => self.say(format_args!(" {sender} is at {mac}")),
            other => self.say(format_args!(" operation {other}, {sender} to {target}")),
        }
    }

    fn ipv4(&mut self, bytes: &[u8]) {
        let Ok((ip, stopped)) = LaxIpv4Slice::from_slice(bytes) else {
            self.say(format_args!("IPv4"));
            return self.cut();
        };
        let (header, payload) = (ip.header(), ip.payload());
        self.say(format_args!("IPv4 "));
        let (from, to) = (header.source_addr().into(), header.destination_addr().into());
        let place = usize::from(header.fragments_offset().value()) * 8;
        let fragment = payload.fragmented.then_some(Fragment {
            id: header.identification().into(),
            place,
            more: header.more_fragments(),
        });
        self.packet(from, to, payload.ip_number, payload.payload, fragment, payload.incomplete || stopped.is_some());
    }

    fn ipv6(&mut self, bytes: &[u8]) {
        let Ok((ip, stopped)) = LaxIpv6Slice::from_slice(bytes) else {
            self.say(format_args!("IPv6"));
            return self.cut();
        };
        let (header, payload) = (ip.header(), ip.payload());
        self.say(format_args!("IPv6 "));
        let fragment = fragment6(ip.extensions().clone()).filter(|_| payload.fragmented);
        let (from, to) = (header.source_addr().into(), header.destination_addr().into());
        self.packet(from, to, payload.ip_number, payload.payload, fragment, payload.incomplete || stopped.is_some());
    }

    fn packet(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        number: IpNumber,
        bytes: &[u8],
        fragment: Option<Fragment>,
        cut: bool,
    ) {
        match fragment {
            Some(fragment) if fragment.place > 0 => {
                self.say(format_args!("{from} > {to}: {}", protocol(number)));
            }
            Some(_) | None => match number {
                IpNumber::TCP => self.tcp(from, to, bytes),
                IpNumber::UDP => self.udp(from, to, bytes),
                IpNumber::ICMP => self.icmp(from, to, bytes),
                IpNumber::IPV6_ICMP => self.icmp6(from, to, bytes),
                other => self.say(format_args!("{from} > {to}: {}, {} bytes", protocol(other), bytes.len())),
            },
        }
        if let Some(Fragment { id, place, more }) = fragment {
            let more = if more { ", more to come" } else { ", the last" };
            self.say(format_args!(", fragment of {id:#x}: {place}-{}{more}", place + bytes.len()));
        }
        if cut {
            self.cut();
        }
    }

    fn tcp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
        let Ok(tcp) = TcpHeaderSlice::from_slice(bytes) else {
            self.say(format_args!("{from} > {to}: TCP"));
            return self.cut();
        };
        self.ends(from, to, tcp.source_port(), tcp.destination_port());
        let flags = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.psh(), 'P'), (tcp.ack(), '.')];
        let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
        self.say(format_args!("TCP [{flags}], seq {}", tcp.sequence_number()));
        if tcp.ack() {
            self.say(format_args!(", ack {}", tcp.acknowledgment_number()));
        }
        self.say(format_args!(", win {}", tcp.window_size()));
        let size = tcp.options_iterator().flatten().find_map(|option| match option {
            TcpOptionElement::MaximumSegmentSize(size) => Some(size),
            TcpOptionElement::Noop
            | TcpOptionElement::WindowScale(_)
            | TcpOptionElement::SelectiveAcknowledgementPermitted
            | TcpOptionElement::SelectiveAcknowledgement(..)
            | TcpOptionElement::Timestamp(..) => None,
        });
        if let Some(size) = size {
            self.say(format_args!(", mss {size}"));
        }
        self.say(format_args!(", {} bytes", bytes.len() - tcp.slice().len()));
    }

    fn udp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
        let Ok(udp) = UdpHeaderSlice::from_slice(bytes) else {
            self.say(format_args!("{from} > {to}: UDP"));
            return self.cut();
        };
        let (source, destination, payload) = (udp.source_port(), udp.destination_port(), &bytes[8..]);
        self.ends(from, to, source, destination);
        if destination == self.tunnel {
            self.geneve(payload);
        } else if matches!((source, destination), (68, 67) | (67, 68)) {
            self.text += &dhcp::summary(payload);
        } else {
            // What the sender says: a first fragment holds less.
            self.say(format_args!("UDP, {} bytes", usize::from(udp.length()).saturating_sub(8)));
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

/// Where a fragment stands in its packet.
#[derive(Clone, Copy)]
struct Fragment {
    id: u32,
    /// Bytes before it.
    place: usize,
    more: bool,
}

fn fragment6(extensions: etherparse::Ipv6ExtensionsSlice<'_>) -> Option<Fragment> {
    extensions.into_iter().find_map(|extension| match extension {
        etherparse::Ipv6ExtensionSlice::Fragment(header) => Some(Fragment {
            id: header.identification(),
            place: usize::from(header.fragment_offset().value()) * 8,
            more: header.more_fragments(),
        }),
        etherparse::Ipv6ExtensionSlice::HopByHop(_)
        | etherparse::Ipv6ExtensionSlice::Routing(_)
        | etherparse::Ipv6ExtensionSlice::DestinationOptions(_)
        | etherparse::Ipv6ExtensionSlice::Authentication(_) => None,
    })
}

fn protocol(number: IpNumber) -> String {
    number.keyword_str().map_or_else(|| format!("protocol {}", number.0), str::to_owned)
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
