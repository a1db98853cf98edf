//! Binding a leased slot to a tenant's network; part of the [`Ledger`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netslot_abi::{BindingRecord, bind_mode};

use super::types::{Binding, Lease, Refusal, Tunnels, Underlay};
use super::{Ledger, Store, Tenant};
use crate::limits::VNI_MAX;
use crate::slot::SlotId;

impl Binding {
    /// Refuses what no tunnel or guest can have.
    fn check(&self) -> Result<(), Refusal> {
        if self.vni == 0 || self.vni > VNI_MAX {
            return Err(Refusal::VniRange);
        }
        let remote = match self.remote {
            IpAddr::V4(a) => is_unicast_v4(a),
            // A v4-mapped remote would be two spellings of one underlay, and the outer header has one family.
            IpAddr::V6(a) => is_unicast_v6(a) && a.to_ipv4_mapped().is_none(),
        };
        if !remote {
            return Err(Refusal::RemoteAddress);
        }
        let some = self.tenant_v4.is_some() || self.tenant_v6.is_some();
        let v4 = self.tenant_v4.is_none_or(is_unicast_v4);
        let v6 = self.tenant_v6.is_none_or(|a| is_unicast_v6(a) && a.to_ipv4_mapped().is_none());
        if some && v4 && v6 { Ok(()) } else { Err(Refusal::TenantAddress) }
    }

    fn record(&self, generation: u64) -> BindingRecord {
        let (remote, remote_family) = match self.remote {
            IpAddr::V4(a) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&a.octets());
                (bytes, 4)
            }
            IpAddr::V6(a) => (a.octets(), 6),
        };
        BindingRecord {
            generation,
            vni: self.vni,
            tenant_v4: self.tenant_v4.map_or([0; 4], |a| a.octets()),
            tenant_v6: self.tenant_v6.map_or([0; 16], |a| a.octets()),
            remote,
            remote_family,
            mode: bind_mode::TUNNEL,
            ..BindingRecord::default()
        }
    }

    /// The binding in a record; `None` where the record holds none that [`Ledger::bind`] would have taken.
    #[must_use]
    pub fn of(record: &BindingRecord) -> Option<Self> {
        let remote = match record.remote_family {
            4 => IpAddr::V4(Ipv4Addr::from(*record.remote.first_chunk::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(record.remote)),
            _ => return None,
        };
        let binding = Self {
            vni: record.vni,
            remote,
            tenant_v4: Some(Ipv4Addr::from(record.tenant_v4)).filter(|a| !a.is_unspecified()),
            tenant_v6: Some(Ipv6Addr::from(record.tenant_v6)).filter(|a| !a.is_unspecified()),
        };
        let bound = record.generation != 0 && record.mode == bind_mode::TUNNEL;
        (bound && binding.check().is_ok()).then_some(binding)
    }

    fn tenants(&self) -> impl Iterator<Item = Tenant> + use<> {
        let vni = self.vni;
        self.tenant_v4.map(IpAddr::V4).into_iter().chain(self.tenant_v6.map(IpAddr::V6)).map(move |a| (vni, a))
    }
}

fn is_unicast_v4(a: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this network", 240.0.0.0/4 reserved and broadcast.
    !(a.octets()[0] == 0 || a.is_loopback() || a.octets()[0] >= 224)
}

fn is_unicast_v6(a: Ipv6Addr) -> bool {
    !(a.is_unspecified() || a.is_loopback() || a.is_multicast())
}

impl Tunnels {
    /// Refuses what the programs could not carry: such a binding would be a slot without a network, and nobody told.
    fn check(&self, binding: &Binding) -> Result<(), Refusal> {
        if !self.on {
            return Err(Refusal::NoTunnels);
        }
        if let Some((first, last)) = self.dummies.filter(|(first, last)| (first..=last).contains(&&binding.vni)) {
            return Err(Refusal::VniOfSlots(first, last));
        }
        let Some(Underlay { v4, v6 }) = self.underlay else { return Ok(()) };
        match (binding.remote, v4, v6) {
            (IpAddr::V4(_), None, _) => Err(Refusal::RemoteFamily(4)),
            (IpAddr::V6(_), _, None) => Err(Refusal::RemoteFamily(6)),
            (IpAddr::V4(remote), Some(own), _) if remote == own => Err(Refusal::RemoteAddress),
            (IpAddr::V6(remote), _, Some(own)) if remote == own => Err(Refusal::RemoteAddress),
            _ => Ok(()),
        }
    }
}

impl<S: Store> Ledger<S> {
    /// What bindings are held to from here on; those that stand are left as they are.
    pub fn set_tunnels(&mut self, tunnels: Tunnels) {
        self.settings.tunnels = tunnels;
    }

    /// Binds a leased slot to a tenant's network, in place of what it is bound to.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`], [`Refusal::Stale`], [`Refusal::NotOwner`], [`Refusal::VniRange`],
    /// [`Refusal::VniOfSlots`], [`Refusal::NoTunnels`], [`Refusal::RemoteAddress`], [`Refusal::RemoteFamily`],
    /// [`Refusal::TenantAddress`], [`Refusal::AddressInUse`], and [`Refusal::Store`], after which the slot is unbound.
    pub fn bind(&mut self, lease: Lease, uid: u32, binding: &Binding) -> Result<(), Refusal> {
        let outcome = self.bind_slot(lease, uid, binding);
        self.verify();
        outcome
    }

    fn bind_slot(&mut self, lease: Lease, uid: u32, binding: &Binding) -> Result<(), Refusal> {
        let slot = self.owned(lease, uid)?;
        binding.check()?;
        self.settings.tunnels.check(binding)?;
        if let Some(other) = self.tenant_elsewhere(slot, binding) {
            return Err(Refusal::AddressInUse(other));
        }
        let record = binding.record(lease.generation.0);
        self.forget_tenants(slot);
        if let Err(why) = self.store.store_binding(slot, &record) {
            self.store.clear_binding(slot);
            self.slots[slot.index()].binding = BindingRecord::default();
            return Err(Refusal::Store(why));
        }
        self.slots[slot.index()].binding = record;
        self.remember_tenants(slot, binding);
        Ok(())
    }

    /// Unbinds a leased slot; one that is not bound stays so.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`], [`Refusal::Stale`], [`Refusal::NotOwner`].
    pub fn unbind(&mut self, lease: Lease, uid: u32) -> Result<(), Refusal> {
        let slot = self.owned(lease, uid)?;
        self.unbind_slot(slot);
        self.verify();
        Ok(())
    }

    pub(super) fn unbind_slot(&mut self, slot: SlotId) {
        if self.slots[slot.index()].binding.generation == 0 {
            return;
        }
        self.store.clear_binding(slot);
        self.forget_tenants(slot);
        self.slots[slot.index()].binding = BindingRecord::default();
    }

    pub(super) fn tenant_elsewhere(&self, slot: SlotId, binding: &Binding) -> Option<SlotId> {
        binding.tenants().find_map(|tenant| self.tenants.get(&tenant).copied().filter(|holder| *holder != slot))
    }

    pub(super) fn remember_tenants(&mut self, slot: SlotId, binding: &Binding) {
        for tenant in binding.tenants() {
            self.tenants.insert(tenant, slot);
        }
    }

    fn forget_tenants(&mut self, slot: SlotId) {
        if let Some(old) = Binding::of(&self.slots[slot.index()].binding) {
            for tenant in old.tenants() {
                self.tenants.remove(&tenant);
            }
        }
    }

    /// The tenant addresses of a slot's binding as kept, for the invariants.
    #[cfg(debug_assertions)]
    pub(super) fn tenants_of(record: &BindingRecord) -> impl Iterator<Item = Tenant> {
        Binding::of(record).into_iter().flat_map(|binding| binding.tenants())
    }
}
