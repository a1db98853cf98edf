//! Which frames of the uplink are a slot's: exactly, and as a filter that lets the kernel drop most others before they
//! wake anybody; pure.

use netslot_abi::{BindingRecord, ConfigRecord, bind_mode, nth_v4, nth_v6, tunnel};
use nix::libc::{self, sock_filter};

use crate::slot::SlotId;
use crate::sys::socket_filter::statement;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// What makes a frame on the uplink this slot's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mine {
    /// Addresses that the network knows the slot by.
    pub v4: Vec<[u8; 4]>,
    /// The same for IPv6.
    pub v6: Vec<[u8; 16]>,
    /// UDP port of tunnels.
    pub port: u16,
    /// Tunnels that carry its packets.
    pub tunnels: Vec<Tunnel>,
}

/// A VNI, and whose packets in it are the slot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// 24 bits.
    pub vni: u32,
    /// The guest's address inside; zero = none.
    pub v4: [u8; 4],
    /// The same for IPv6.
    pub v6: [u8; 16],
}

impl Mine {
    /// What the programs know the slot by: its addresses, and, where it is bound, its tenant's network.
    #[must_use]
    pub fn of(record: &ConfigRecord, slot: SlotId, binding: Option<&BindingRecord>) -> Self {
        let n = slot.number();
        let v4 = [record.slot_v4, record.external_v4].into_iter().filter(|first| *first != [0; 4]);
        let v6 = [record.slot_v6, record.external_v6].into_iter().filter(|first| *first != [0; 16]);
        let bound = binding.filter(|binding| binding.mode == bind_mode::TUNNEL);
        let bound = bound.map(|b| Tunnel { vni: b.vni, v4: b.tenant_v4, v6: b.tenant_v6 });
        // What the tunnel device sends shows like this where no program rewrites it, which is a fault to be seen.
        let dummy = (record.tunnel == tunnel::GENEVE).then_some(Tunnel {
            vni: record.vni_base + n,
            v4: record.guest_v4,
            v6: record.guest_v6,
        });
        Self {
            v4: v4.map(|first| nth_v4(first, n)).collect(),
            v6: v6.map(|first| nth_v6(first, n)).collect(),
            port: record.geneve_port,
            tunnels: bound.into_iter().chain(dummy).collect(),
        }
    }

    /// Whether a frame is this slot's.
    #[must_use]
    pub fn has(&self, frame: &[u8]) -> bool {
        self.in_frame(frame).unwrap_or(false)
    }

    fn in_frame(&self, frame: &[u8]) -> Option<bool> {
        let bytes = frame.get(ETHERNET..)?;
        Some(match half(frame, 12)? {
            ARP => self.v4.iter().any(|own| bytes.get(14..18) == Some(own) || bytes.get(24..28) == Some(own)),
            IPV4 if self.v4.iter().any(|own| between4(bytes, *own)) => true,
            IPV4 => {
                let whole = half(bytes, 6)? & 0x1fff == 0;
                let udp = usize::from(bytes.first()? & 0xf) * 4;
                whole && *bytes.get(9)? == UDP && self.in_tunnel(bytes.get(udp..)?)?
            }
            IPV6 if self.v6.iter().any(|own| between6(bytes, *own)) => true,
            IPV6 => *bytes.get(6)? == UDP && self.in_tunnel(bytes.get(40..)?)?,
            _ => false,
        })
    }

    fn in_tunnel(&self, udp: &[u8]) -> Option<bool> {
        if half(udp, 2)? != self.port {
            return Some(false);
        }
        let geneve = udp.get(8..)?;
        let vni = u32::from_be_bytes([0, *geneve.get(4)?, *geneve.get(5)?, *geneve.get(6)?]);
        let inner = geneve.get(8 + usize::from(geneve[0] & 0x3f) * 4..)?;
        let bytes = inner.get(ETHERNET..)?;
        let kind = half(inner, 12)?;
        Some(self.tunnels.iter().filter(|tunnel| tunnel.vni == vni).any(|tunnel| match kind {
            IPV4 => between4(bytes, tunnel.v4),
            IPV6 => between6(bytes, tunnel.v6),
            _ => false,
        }))
    }

    /// The same for the kernel: it lets every frame through that [`Self::has`] holds for, and of others only ARP and what
    /// else is in the slot's VNIs. It sees frames without their VLAN tag, as a device without one does.
    #[must_use]
    pub fn filter(&self) -> Vec<sock_filter> {
        let mut filter = Filter::default();
        filter.load_half(12);
        filter.jump_if(ARP.into(), Place::Accept, Place::Next);
        filter.jump_if(IPV6.into(), Place::V6, Place::Next);
        filter.jump_if(IPV4.into(), Place::Next, Place::Reject);
        for at in [26, 30] {
            filter.load_word(at);
            for own in &self.v4 {
                filter.jump_if(u32::from_be_bytes(*own), Place::Accept, Place::Next);
            }
        }
        filter.load_byte(23);
        filter.jump_if(UDP.into(), Place::Next, Place::Reject);
        filter.load_half(20);
        filter.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0x1fff, Place::Reject, Place::Next);
        // X = bytes of the IPv4 header.
        filter.push(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 14, Place::Next, Place::Next);
        filter.tunnel(libc::BPF_IND, 14, self);
        filter.here(Place::V6);
        for at in [22, 38] {
            for own in &self.v6 {
                let words: Vec<u32> = own.chunks(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect();
                for (i, word) in (0_u32..).zip(&words) {
                    filter.load_word(at + 4 * i);
                    // What is left of this address: two statements for each word after this one.
                    let rest = 2 * (3 - i);
                    let equal = if i == 3 { Place::Accept } else { Place::Next };
                    filter.jump_if(*word, equal, Place::Skip(rest));
                }
            }
        }
        filter.load_byte(20);
        filter.jump_if(UDP.into(), Place::Next, Place::Reject);
        filter.tunnel(libc::BPF_ABS, 54, self);
        filter.done()
    }
}

/// Whether an IPv4 packet has that source or destination; zeros are nobody's.
fn between4(packet: &[u8], own: [u8; 4]) -> bool {
    own != [0; 4] && (packet.get(12..16) == Some(&own) || packet.get(16..20) == Some(&own))
}

fn between6(packet: &[u8], own: [u8; 16]) -> bool {
    own != [0; 16] && (packet.get(8..24) == Some(&own) || packet.get(24..40) == Some(&own))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Where a filter goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Next,
    /// Past so many statements.
    Skip(u32),
    V6,
    Accept,
    Reject,
}

/// A filter being written. Jumps only go forward, so places are looked up at the end.
#[derive(Default)]
struct Filter {
    statements: Vec<(u32, u32, Place, Place)>,
    v6: usize,
}

impl Filter {
    fn push(&mut self, code: u32, k: u32, holds: Place, fails: Place) {
        self.statements.push((code, k, holds, fails));
    }

    fn load_byte(&mut self, at: u32) {
        self.push(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at, Place::Next, Place::Next);
    }

    fn load_half(&mut self, at: u32) {
        self.push(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, at, Place::Next, Place::Next);
    }

    fn load_word(&mut self, at: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, Place::Next, Place::Next);
    }

    fn jump_if(&mut self, equal: u32, holds: Place, fails: Place) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, equal, holds, fails);
    }

    fn here(&mut self, place: Place) {
        debug_assert_eq!(place, Place::V6, "the only one that is not at the end");
        self.v6 = self.statements.len();
    }

    /// A UDP header there: accepts a packet of one of the tunnels, rejects any other.
    fn tunnel(&mut self, mode: u32, udp: u32, mine: &Mine) {
        self.push(libc::BPF_LD | libc::BPF_H | mode, udp + 2, Place::Next, Place::Next);
        self.jump_if(mine.port.into(), Place::Next, Place::Reject);
        self.push(libc::BPF_LD | libc::BPF_W | mode, udp + 12, Place::Next, Place::Next);
        self.push(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 8, Place::Next, Place::Next);
        for tunnel in &mine.tunnels {
            self.jump_if(tunnel.vni, Place::Accept, Place::Next);
        }
        self.push(libc::BPF_RET | libc::BPF_K, 0, Place::Next, Place::Next);
    }

    fn done(self) -> Vec<sock_filter> {
        let accept = self.statements.len();
        let distance = |from: usize, place: Place| {
            let to = match place {
                Place::Next => from + 1,
                Place::Skip(count) => from + 1 + usize::try_from(count).expect("a few"),
                Place::V6 => self.v6,
                Place::Accept => accept,
                Place::Reject => accept + 1,
            };
            u8::try_from(to - from - 1).expect("two addresses of each family and two tunnels make about 60 statements")
        };
        let statements = self.statements.iter().enumerate();
        let mut program: Vec<sock_filter> = statements
            .map(|(i, &(code, k, holds, fails))| statement(code, distance(i, holds), distance(i, fails), k))
            .collect();
        program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX));
        program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, 0));
        program
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket_filter;
    use proptest::prelude::*;
    use std::os::unix::net::UnixDatagram;

    /// The kernel's own interpreter, on any socket.
    struct Kernel(UnixDatagram, UnixDatagram);

    impl Kernel {
        fn with(filter: &[sock_filter]) -> Self {
            let (sender, receiver) = UnixDatagram::pair().expect("two sockets");
            socket_filter::attach(&receiver, filter).expect("the kernel takes the filter");
            receiver.set_nonblocking(true).expect("set");
            Self(sender, receiver)
        }

        fn passes(&self, frame: &[u8]) -> bool {
            // A datagram that the filter drops is an error of its sender (unix_dgram_sendmsg, net/unix/af_unix.c).
            let _ = self.0.send(frame);
            self.1.recv(&mut [0; 2_048]).is_ok()
        }
    }

    fn record() -> ConfigRecord {
        ConfigRecord {
            slot_v4: [100, 64, 0, 2],
            external_v4: [203, 0, 113, 2],
            slot_v6: [0xfd, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            guest_v4: [172, 16, 0, 2],
            guest_v6: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            tunnel: tunnel::GENEVE,
            vni_base: 0xf0_0000,
            geneve_port: 6_081,
            ..ConfigRecord::empty()
        }
    }

    fn binding() -> BindingRecord {
        BindingRecord {
            vni: 77,
            mode: bind_mode::TUNNEL,
            tenant_v4: [10, 1, 2, 3],
            tenant_v6: [0xfd, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
            ..BindingRecord::default()
        }
    }

    fn mine() -> Mine {
        Mine::of(&record(), SlotId::new(5).expect("in range"), Some(&binding()))
    }

    #[test]
    fn a_slot_is_known_by_its_addresses_and_its_tunnels() {
        let mine = mine();
        assert_eq!(mine.v4, [[100, 64, 0, 7], [203, 0, 113, 7]]);
        assert_eq!(mine.v6.iter().map(|own| own[15]).collect::<Vec<_>>(), [7]);
        assert_eq!(mine.tunnels.iter().map(|tunnel| tunnel.vni).collect::<Vec<_>>(), [77, 0xf0_0005]);
        let unbound = Mine::of(&record(), SlotId::new(5).expect("in range"), None);
        assert_eq!(unbound.tunnels.len(), 1);
    }

    fn ethernet(kind: u16, bytes: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &kind.to_be_bytes(), bytes].concat()
    }

    fn ip4(from: [u8; 4], to: [u8; 4], options: u8, fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let head =
            [0x45 + options, 0, 0, 0, 0, 0, fragment.to_be_bytes()[0], fragment.to_be_bytes()[1], 64, protocol, 0, 0];
        [&head[..], &from, &to, &vec![0; usize::from(options) * 4], payload].concat()
    }

    fn ip6(from: [u8; 16], to: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
        [&[0x60, 0, 0, 0, 0, 0, next, 64][..], &from, &to, payload].concat()
    }

    fn geneve(port: u16, vni: u32, options: u8, inner: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = vni.to_be_bytes();
        let udp = [&[0xc0, 0, port.to_be_bytes()[0], port.to_be_bytes()[1], 0, 0, 0, 0][..]].concat();
        [&udp[..], &[options, 0, 0x65, 0x58, a, b, c, 0], &vec![0; usize::from(options) * 4], inner].concat()
    }

    fn v4() -> impl Strategy<Value = [u8; 4]> {
        prop_oneof![
            Just([100, 64, 0, 7]),
            Just([203, 0, 113, 7]),
            Just([10, 1, 2, 3]),
            Just([172, 16, 0, 2]),
            Just([100, 64, 0, 8])
        ]
    }

    fn v6() -> impl Strategy<Value = [u8; 16]> {
        let own = mine();
        let (slot, tenant) = (own.v6[0], own.tunnels[0].v6);
        let mut near = slot;
        near[9] ^= 1;
        prop_oneof![Just(slot), Just(tenant), Just(near), any::<[u8; 16]>()]
    }

    fn packet() -> BoxedStrategy<Vec<u8>> {
        let tcp4 =
            (v4(), v4(), 0_u8..3).prop_map(|(a, b, options)| ethernet(IPV4, &ip4(a, b, options, 0, 6, &[0; 20])));
        let tcp6 = (v6(), v6()).prop_map(|(a, b)| ethernet(IPV6, &ip6(a, b, 6, &[0; 20])));
        let arp = (v4(), v4()).prop_map(|(a, b)| ethernet(ARP, &[&[0; 14][..], &a, &[0; 6], &b].concat()));
        prop_oneof![tcp4, tcp6, arp].boxed()
    }

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let vni = prop_oneof![Just(77_u32), Just(0xf0_0005), Just(78)];
        let port = prop_oneof![4 => Just(6_081_u16), 1 => Just(53)];
        let fragment = prop_oneof![4 => Just(0_u16), 1 => Just(0x2000), 1 => Just(100)];
        let tunnelled = (packet(), vni, port, 0_u8..3, v4(), v6(), fragment, 0_u8..3, any::<bool>()).prop_map(
            |(inner, vni, port, words, a, b, fragment, options, six)| {
                let udp = geneve(port, vni, words, &inner);
                let far = [198, 51, 100, 1];
                if six {
                    ethernet(IPV6, &ip6(b, b, 17, &udp))
                } else {
                    ethernet(IPV4, &ip4(far, a, options, fragment, 17, &udp))
                }
            },
        );
        let cut = (prop_oneof![packet(), tunnelled.boxed()], 0_usize..160);
        prop_oneof![
            8 => cut.prop_map(|(frame, lost)| frame[..frame.len().saturating_sub(lost.saturating_sub(60))].to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..100),
        ]
    }

    proptest! {
        #[test]
        fn the_kernel_keeps_every_frame_that_is_the_slots(frames in proptest::collection::vec(frame(), 1..40)) {
            let mine = mine();
            let kernel = Kernel::with(&mine.filter());
            for frame in frames {
                let passes = !frame.is_empty() && kernel.passes(&frame);
                prop_assert!(passes || !mine.has(&frame), "{frame:02x?}");
            }
        }
    }

    #[test]
    fn others_traffic_is_dropped_by_the_kernel_and_here() {
        let mine = mine();
        let kernel = Kernel::with(&mine.filter());
        let (far, other) = ([198, 51, 100, 1], [100, 64, 0, 8]);
        let inner = |own| ethernet(IPV4, &ip4(far, own, 0, 0, 6, &[0; 20]));
        let tunnel = |vni, own| ethernet(IPV4, &ip4(far, far, 1, 0, 17, &geneve(6_081, vni, 1, &inner(own))));
        for (what, frame, kept, own) in [
            ("its own", ethernet(IPV4, &ip4(far, [100, 64, 0, 7], 0, 0, 6, &[0; 20])), true, true),
            ("the next slot's", ethernet(IPV4, &ip4(far, other, 0, 0, 6, &[0; 20])), false, false),
            ("its tenant's", tunnel(77, [10, 1, 2, 3]), true, true),
            ("its neighbour's in the tenant's network", tunnel(77, [10, 1, 2, 4]), true, false),
            ("another tenant's", tunnel(78, [10, 1, 2, 3]), false, false),
            ("LLDP", ethernet(0x88cc, &[0; 40]), false, false),
        ] {
            assert_eq!((kernel.passes(&frame), mine.has(&frame)), (kept, own), "{what}");
        }
    }
}
