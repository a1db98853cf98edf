//! The programs' maps, and the questions put to them; sizes are placeholders that user space replaces at load.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use netslot_abi::{
    BindingRecord, ConfigRecord, CounterRecord, DROP_REASONS, DropReason, LedgerRecord, SlotState, TenantKey,
    bind_mode, ledger_flag,
};
use netslot_packet::dhcp;

#[btf_map(name = "config")]
static CONFIG: Array<ConfigRecord, 1, { BPF_F_RDONLY_PROG as usize }> = Array::new();
#[btf_map(name = "ledger")]
static LEDGER: Array<LedgerRecord, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map(name = "bindings")]
static BINDINGS: Array<BindingRecord, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map(name = "tenants")]
static TENANTS: HashMap<TenantKey, u32, 1> = HashMap::new();
#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<CounterRecord, 1> = PerCpuArray::new();

/// Where a DHCP request is taken apart and its reply put together.
#[repr(C)]
pub struct Scratch {
    pub request: dhcp::Request,
    pub reply: [u8; dhcp::REPLY_BYTES],
}

#[btf_map(name = "scratch")]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// What the programs were told; `None` does not happen, since an array has all its elements from the start.
#[inline(always)]
pub fn config() -> Option<&'static ConfigRecord> {
    CONFIG.get(0)
}

#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: this processor's own copy, and no program is interrupted by another that uses it: programs of tc run with
    // soft interrupts off.
    SCRATCH.get_ptr_mut(0).map(|p| unsafe { &mut *p })
}

/// A leased slot.
#[derive(Clone, Copy)]
pub struct Leased {
    pub number: u32,
    binding: &'static BindingRecord,
    bound: bool,
    flags: u8,
}

impl Leased {
    /// The slot, if somebody holds a lease on it.
    #[inline(always)]
    pub fn find(number: u32) -> Result<Self, DropReason> {
        let record = LEDGER.get(number).ok_or(DropReason::NotLeased)?;
        // SAFETY: in bounds; volatile, since user space writes it meanwhile. An aligned 8-byte load is whole.
        let commit = unsafe { read_volatile(addr_of!(record.commit)) };
        if commit & 0xff != SlotState::Leased as u64 {
            return Err(DropReason::NotLeased);
        }
        let binding = BINDINGS.get(number).ok_or(DropReason::NotLeased)?;
        // SAFETY: as above. A binding is written while its generation is 0, so one that reads right is whole.
        let generation = unsafe { read_volatile(addr_of!(binding.generation)) };
        // SAFETY: as the commit word; this bit stays as it is while the slot is leased.
        let flags = unsafe { read_volatile(addr_of!(record.flags)) };
        Ok(Self { number, binding, flags, bound: generation != 0 && generation == commit >> 8 })
    }

    /// The binding, if the slot's packets travel through the tunnel.
    #[inline(always)]
    pub fn tunnel(&self) -> Option<&'static BindingRecord> {
        if self.bound && self.binding.mode == bind_mode::TUNNEL { Some(self.binding) } else { None }
    }

    /// Whether the slot is used without a guest.
    #[inline(always)]
    pub fn own_stack(&self) -> bool {
        self.flags & ledger_flag::OWN_STACK != 0
    }
}

/// The slot that a tenant's address is bound to.
#[inline(always)]
pub fn tenant(key: &TenantKey) -> Option<u32> {
    // SAFETY: a value of four bytes, copied at once: an entry that is replaced meanwhile gives the old or the new slot,
    // and its binding is checked either way.
    unsafe { TENANTS.get(key).copied() }
}

/// Counts a packet that left the slot.
#[inline(always)]
pub fn count_out(slot: u32, bytes: u32) {
    if let Some(c) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: this processor's own copy.
        unsafe {
            (*c).out_packets += 1;
            (*c).out_bytes += u64::from(bytes);
        }
    }
}

/// Counts a packet that entered the slot.
#[inline(always)]
pub fn count_in(slot: u32, bytes: u32) {
    if let Some(c) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: this processor's own copy.
        unsafe {
            (*c).in_packets += 1;
            (*c).in_bytes += u64::from(bytes);
        }
    }
}

/// Counts an answered DHCP request.
#[inline(always)]
pub fn count_dhcp(slot: u32) {
    if let Some(c) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: this processor's own copy.
        unsafe { (*c).dhcp_replies += 1 }
    }
}

/// Counts a dropped packet. Those of no slot have the element after the last slot's.
#[inline(always)]
pub fn count_drop(slot: u32, reason: DropReason) {
    let index = reason as usize;
    // SAFETY: a local. The compiler knows how many reasons there are and would drop the mask; the verifier does not,
    // and wants it.
    let index = unsafe { read_volatile(&raw const index) } & (DROP_REASONS - 1);
    if let Some(c) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: this processor's own copy.
        unsafe { (*c).drops[index] += 1 }
    }
}
