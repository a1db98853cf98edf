//! A packet in the kernel's hands: [`Frame`] over the kernel's helpers, and the few helpers that change its shape or
//! send it elsewhere; no decision is taken here.
//!
//! Helpers, not direct access: they reach into fragments that are not linear and unshare what is shared, at a few
//! nanoseconds each.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode, bpf_fib_lookup,
};
use aya_ebpf::bpf_f_adj_room_encap_l2;
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup as fib_lookup, bpf_get_hash_recalc, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect,
    bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use netslot_packet::{Frame, Share, Sum};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Family of the packet inside a tunnel, or around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// One packet.
pub struct Skb(*mut __sk_buff);

impl Skb {
    /// # Safety
    /// `raw` is the context of the running program.
    pub const unsafe fn new(raw: *mut __sk_buff) -> Self {
        Self(raw)
    }

    #[inline(always)]
    pub fn len(&self) -> u32 {
        // SAFETY: the program's context; the verifier checks the access.
        unsafe { (*self.0).len }
    }

    /// The device the program runs for.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ifindex }
    }

    /// Whether a VLAN tag was taken off the bytes.
    #[inline(always)]
    pub fn tagged(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).vlan_present != 0 }
    }

    #[inline(always)]
    pub fn set_mark(&mut self, mark: u32) {
        // SAFETY: as above; `mark` is writable in a classifier.
        unsafe { (*self.0).mark = mark }
    }

    /// Hash of the packet's flow.
    #[inline(always)]
    pub fn flow_hash(&self) -> u32 {
        // SAFETY: the program's context.
        unsafe { bpf_get_hash_recalc(self.0) }
    }

    /// Makes room for `bytes` of tunnel headers after the Ethernet header, the last 14 of them an inner Ethernet
    /// header, and tells the kernel what they will be, so that segmentation keeps them on every segment. The segments'
    /// size stays as it is: the guest's MTU already leaves room.
    #[inline(always)]
    pub fn wrap(&mut self, bytes: i32, outer: Family) -> Option<()> {
        let l3 = match outer {
            Family::V4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            Family::V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        };
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | l3 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
        self.adjust(bytes, u64::from(flags) | bpf_f_adj_room_encap_l2(14))
    }

    /// Takes `bytes` after the Ethernet header away, which leaves a packet of that family.
    #[inline(always)]
    pub fn unwrap(&mut self, bytes: i32, inner: Family) -> Option<()> {
        let l3 = match inner {
            Family::V4 => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
            Family::V6 => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        };
        self.adjust(-bytes, u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | l3))
    }

    /// Takes `bytes` after the Ethernet header away.
    #[inline(always)]
    pub fn cut(&mut self, bytes: i32) -> Option<()> {
        self.adjust(-bytes, 0)
    }

    #[inline(always)]
    fn adjust(&mut self, difference: i32, flags: u64) -> Option<()> {
        // SAFETY: the program's context; the kernel checks the numbers.
        done(unsafe { bpf_skb_adjust_room(self.0, difference, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, flags) })
    }

    /// Cuts or lengthens the packet at its end.
    #[inline(always)]
    pub fn set_len(&mut self, len: u32) -> Option<()> {
        // SAFETY: as above.
        done(unsafe { bpf_skb_change_tail(self.0, len, 0) })
    }

    /// Looks a route up, as if the packet were forwarded from the device the program runs for.
    #[inline(always)]
    pub fn route(&mut self, query: &mut bpf_fib_lookup) -> bool {
        // SAFETY: the program's context, and a query that lives on the program's stack.
        unsafe { fib_lookup(self.0.cast(), query, size_of::<bpf_fib_lookup>() as i32, 0) == 0 }
    }
}

/// Sends the packet out of a device; the value is the program's verdict.
#[inline(always)]
pub fn redirect(ifindex: u32) -> i32 {
    // SAFETY: takes numbers only.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

/// Sends the packet out of a device to the next hop that the routing table names for its (outer) destination.
#[inline(always)]
pub fn redirect_routed(ifindex: u32) -> i32 {
    // SAFETY: no parameters: the kernel looks the route up itself.
    unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Hands the packet to the far end of a veth pair, in its namespace.
#[inline(always)]
pub fn redirect_peer(ifindex: u32) -> i32 {
    // SAFETY: takes numbers only.
    unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
}

#[inline(always)]
const fn done(result: i64) -> Option<()> {
    if result == 0 { Some(()) } else { None }
}

impl Frame for Skb {
    #[inline(always)]
    fn load<T: FromBytes>(&self, at: u32) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: room for a T, whose every byte pattern is a value; the helper fills all of it or fails.
        unsafe {
            done(bpf_skb_load_bytes(self.0.cast(), at, value.as_mut_ptr().cast(), size_of::<T>() as u32))?;
            Some(value.assume_init())
        }
    }

    #[inline(always)]
    fn store<T: IntoBytes + Immutable>(&mut self, at: u32, value: &T, share: Share) -> Option<()> {
        let flags = match share {
            Share::Balanced => 0,
            Share::Counted => u64::from(BPF_F_RECOMPUTE_CSUM),
        };
        // SAFETY: a T's bytes, all of them initialised.
        done(unsafe {
            bpf_skb_store_bytes(self.0.cast(), at, (&raw const *value).cast(), size_of::<T>() as u32, flags)
        })
    }

    #[inline(always)]
    fn mend(&mut self, at: u32, delta: u32, sum: Sum) -> Option<()> {
        let delta = u64::from(delta);
        // A size of 0 in the flags' low bits says that `to` is a difference already.
        // SAFETY: the program's context and numbers.
        done(unsafe {
            match sum {
                Sum::Header => bpf_l3_csum_replace(self.0.cast(), at, 0, delta, 0),
                Sum::Body => bpf_l4_csum_replace(self.0.cast(), at, 0, delta, 0),
                Sum::Pseudo => bpf_l4_csum_replace(self.0.cast(), at, 0, delta, u64::from(BPF_F_PSEUDO_HDR)),
                Sum::PseudoUdp => {
                    let flags = u64::from(BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
                    bpf_l4_csum_replace(self.0.cast(), at, 0, delta, flags)
                }
            }
        })
    }

    #[inline(always)]
    fn load_some<const N: usize>(&self, at: u32, len: u32, out: &mut [u8; N]) -> Option<()> {
        // Verifiers before 6.8 learn nothing from a comparison with 0, and refuse a length that might be 0. So the bound
        // is checked one lower, on a number in which the compiler cannot recognise the length.
        let below = core::hint::black_box(len.wrapping_sub(1));
        if below >= N as u32 {
            return None;
        }
        // SAFETY: `out` has room for that many bytes, checked above where the verifier sees it.
        done(unsafe { bpf_skb_load_bytes(self.0.cast(), at, out.as_mut_ptr().cast(), below + 1) })
    }
}
