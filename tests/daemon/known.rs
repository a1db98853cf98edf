//! What a client knows of its leases and bindings while daemons are killed under it, held against what the next one
//! lists; it judges no more than what the client was told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use netslot::bpf::Maps;
use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::snapshot::Slot;
use netslot_protocol::{Binding, Ip, LeaseId, State};

/// What the client was told, and what it was told nothing about.
#[derive(Debug, Default)]
pub struct Known {
    held: BTreeMap<u32, (u64, Option<Binding>)>,
    /// It asked for leases and got no answer.
    asking: bool,
    /// It asked for something to become of these and got no answer; the binding that it asked for.
    changing: Vec<(LeaseId, Option<Binding>)>,
    /// So many bindings were asked for: each for an address of its own.
    binds: u32,
}

impl Known {
    /// Leases; what is passed with the leases is closed at once.
    pub fn lease(&mut self, client: &mut Client, options: &LeaseOptions<'_>) -> Result<Vec<LeaseId>, ClientError> {
        self.asking = true;
        let ids: Vec<LeaseId> = client.lease(options)?.iter().map(|lease| lease.id).collect();
        self.asking = false;
        ids.iter().for_each(|id| self.granted(*id));
        Ok(ids)
    }

    /// It was told of a lease.
    pub fn granted(&mut self, id: LeaseId) {
        let before = self.held.insert(id.slot, (id.generation, None));
        assert_eq!(before, None, "slot {} is leased twice", id.slot);
    }

    /// The leases that it holds, by slot.
    pub fn leases(&self) -> Vec<LeaseId> {
        self.held.iter().map(|(slot, (generation, _))| LeaseId { slot: *slot, generation: *generation }).collect()
    }

    /// How many bindings it has asked for.
    pub const fn binds(&self) -> u32 {
        self.binds
    }

    /// Asks for something to become of a lease, which may be done or not if no answer comes.
    fn change<T>(
        &mut self,
        id: LeaseId,
        to: Option<Binding>,
        ask: impl FnOnce() -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.changing.push((id, to));
        let answer = ask()?;
        self.changed(id);
        Ok(answer)
    }

    fn changed(&mut self, id: LeaseId) {
        self.changing.retain(|(changing, _)| *changing != id);
    }

    /// Releases a lease.
    pub fn release(&mut self, client: &mut Client, id: LeaseId) -> Result<(), ClientError> {
        let bound = self.held.remove(&id.slot).and_then(|(_, bound)| bound);
        self.change(id, bound, || client.release(id))
    }

    /// The same by closing the connection that it ends with; its slot is leased again by another.
    pub fn close(
        &mut self,
        holder: Option<Client>,
        id: LeaseId,
        client: &mut Client,
        again: &LeaseOptions<'_>,
    ) -> Result<(), ClientError> {
        let bound = self.held.remove(&id.slot).and_then(|(_, bound)| bound);
        self.changing.push((id, bound));
        drop(holder);
        let again = self.lease(client, again)?;
        assert_eq!(again[0].slot, id.slot, "all others are leased");
        self.changed(id);
        Ok(())
    }

    /// Binds a lease that is held, to an address that no other binding had.
    pub fn bind(&mut self, client: &mut Client, id: LeaseId) -> Result<(), ClientError> {
        self.binds += 1;
        let [_, high, middle, low] = self.binds.to_be_bytes();
        let v6 = std::net::Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(self.binds));
        let binding = Binding {
            vni: 9,
            remote: Ip::V4([192, 0, 2, 10]),
            tenant_v4: Some([10, high, middle, low]),
            tenant_v6: Some(v6.octets()).filter(|_| self.binds.is_multiple_of(2)),
        };
        self.change(id, Some(binding), || client.bind(id, binding))?;
        self.held.insert(id.slot, (id.generation, Some(binding)));
        Ok(())
    }

    /// The other way round.
    pub fn unbind(&mut self, client: &mut Client, id: LeaseId) -> Result<(), ClientError> {
        self.change(id, None, || client.unbind(id))?;
        self.held.insert(id.slot, (id.generation, None));
        Ok(())
    }

    /// Holds what the next daemon lists against it, and the tenants' map against the list. Where it was told nothing,
    /// what is listed is what it knows from here on.
    pub fn must_be(&mut self, slots: &[Slot], when: &str) {
        let mut lost = std::mem::take(&mut self.held);
        for slot in slots.iter().filter(|slot| slot.state == State::Leased) {
            let id = LeaseId { slot: slot.slot, generation: slot.generation };
            let changing = self.changing.iter().find(|(changing, _)| *changing == id);
            match (lost.remove(&slot.slot), changing) {
                (Some((generation, bound)), None) => {
                    assert_eq!(slot.generation, generation, "{when}: slot {} was leased to another", slot.slot);
                    assert_eq!(slot.binding, bound, "{when}: {slot:?}");
                }
                // One that is replaced is taken away first.
                (Some((_, bound)), Some((_, to))) => {
                    assert!(
                        slot.binding.is_none() || [bound, *to].contains(&slot.binding),
                        "{when}: {slot:?}, {bound:?}"
                    );
                }
                (None, Some((_, bound))) => {
                    assert!(slot.binding.is_none() || slot.binding == *bound, "{when}: {slot:?}, {bound:?}");
                }
                (None, None) => panic!("{when}: leased, and nobody was told of it (asking: {}): {slot:?}", self.asking),
            }
            self.held.insert(slot.slot, (slot.generation, slot.binding));
        }
        assert!(lost.is_empty(), "{when}: lost: {lost:?}");
        assert_eq!(keys(), keys_of(slots), "{when}: VNIs and addresses of the tenants' map, and of the bindings");
        self.changing.clear();
        self.asking = false;
    }
}

/// A VNI, an address, and the slot that they lead to.
type Key = (u32, std::net::IpAddr, Option<u32>);

/// What the tenants' map holds.
fn keys() -> BTreeSet<Key> {
    let maps = Maps::open(Path::new("/sys/fs/bpf/netslot")).expect("readable").expect("pinned");
    let store = maps.store(maps.cells().expect("mapped").into()).expect("the tenants' map");
    let tenants = store.tenants().expect("readable");
    let key = |(key, slot): &(netslot_abi::TenantKey, Option<netslot::slot::SlotId>)| {
        let v4 = *key.address.first_chunk::<4>().expect("16 bytes");
        let address = if key.family == 4 { v4.into() } else { key.address.into() };
        (key.vni, address, slot.map(netslot::slot::SlotId::number))
    };
    tenants.iter().map(key).collect()
}

/// What it should hold.
fn keys_of(slots: &[Slot]) -> BTreeSet<Key> {
    let keys = |slot: &Slot| -> Vec<Key> {
        let Some(binding) = slot.binding else { return Vec::new() };
        let v4 = binding.tenant_v4.map(std::net::IpAddr::from);
        let addresses = v4.into_iter().chain(binding.tenant_v6.map(std::net::IpAddr::from));
        addresses.map(|address| (binding.vni, address, Some(slot.slot))).collect()
    };
    slots.iter().flat_map(keys).collect()
}
