//! Looks at what there is of a pool: root's dumps, then each slot's, held against the blueprint; changes nothing.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::error::PassError;
use super::parallel;
use super::progress::Progress;
use crate::bpf::attach;
use crate::netlink::nft::Table;
use crate::netlink::observed::{Address, Link, MarkRule, Neighbour, Route};
use crate::netlink::tc::{Hook, Qdisc};
use crate::netlink::{Protocol, Socket, SocketError, route, tc};
use crate::plan::inspect::{HostDump, InsideDump, inspect};
use crate::plan::{Blueprint, Found, Observed, Parts};
use crate::rules::own_tables;
use crate::slot::SlotId;
use crate::sys::netns;
use crate::sys::vault::Vault;

/// Root's devices and routes, of which the uplink and the host ends are found.
#[derive(Debug)]
pub struct Root {
    /// All devices.
    pub links: Vec<Link>,
    /// All unicast routes.
    pub routes: Vec<Route>,
    /// All addresses.
    pub addresses: Vec<Address>,
    neighbours: Vec<Neighbour>,
    qdiscs: Vec<Qdisc>,
}

/// Dumps root.
///
/// # Errors
/// [`PassError::Socket`].
pub fn root(socket: &mut Socket) -> Result<Root, PassError> {
    Ok(Root {
        links: socket.dump(route::dump_links, Link::read)?,
        routes: socket.dump(route::dump_routes, Route::read)?,
        addresses: socket.dump(route::dump_addresses, Address::read)?,
        neighbours: socket.dump(route::dump_neighbours, Neighbour::read)?,
        qdiscs: socket.dump(tc::dump_qdiscs, Qdisc::read)?,
    })
}

/// Looks at every slot of which the vault or root shows anything; at `only` those, where given.
///
/// # Errors
/// [`PassError`].
pub fn pool(
    blueprint: &Blueprint,
    vault: Option<&Vault>,
    root: Root,
    only: Option<&BTreeSet<SlotId>>,
    threads: usize,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Observed, PassError> {
    let host = HostDump::new(blueprint, root.links, &root.routes, &root.neighbours, &root.qdiscs)?;
    let mut slots: BTreeSet<SlotId> = host.slots().collect();
    if let Some(vault) = vault {
        slots.extend(vault.slots()?);
    }
    slots.retain(|slot| only.is_none_or(|only| only.contains(slot)));
    let slots: Vec<SlotId> = slots.into_iter().collect();
    let found = Mutex::new(Vec::with_capacity(slots.len()));
    let look = |(): &mut (), slot: &SlotId| {
        let netns = vault.map_or(Ok(None), |v| v.netns(*slot))?;
        let inside = netns.map(|netns| dump_inside(*slot, netns, blueprint)).transpose()?;
        let seen = inspect(blueprint, *slot, inside.as_ref(), &host);
        if seen != Found::Parts(Parts::NONE) {
            found.lock().expect("no holder panics").push((*slot, seen));
        }
        progress.advance(1);
        Ok(())
    };
    progress.phase("observe", slots.len(), || parallel::for_each(threads, &slots, stop, || Ok(()), look))?;
    Ok(Observed { slots: found.into_inner().expect("no holder panics").into_iter().collect() })
}

fn dump_inside(slot: SlotId, netns: impl AsFd, blueprint: &Blueprint) -> Result<InsideDump, PassError> {
    netns::enter(netns).map_err(|errno| PassError::Slot { slot, call: "setns to its namespace", errno })?;
    let mut socket = Socket::open()?;
    Ok(InsideDump {
        links: socket.dump(route::dump_links, Link::read)?,
        addresses: socket.dump(route::dump_addresses, Address::read)?,
        routes: socket.dump(route::dump_routes, Route::read)?,
        neighbours: socket.dump(route::dump_neighbours, Neighbour::read)?,
        rules: match blueprint.has_tunnels() {
            true => socket.dump(route::dump_rules, MarkRule::read)?,
            false => Vec::new(),
        },
        tap_programs: attach::shown(&mut socket, Hook::Ingress(blueprint.slot(slot).tap.index))?,
        tables: match blueprint.rules() {
            None => Vec::new(),
            Some([]) => own_tables_here().unwrap_or_default(), // a kernel without nf_tables has no rules
            Some(_) => own_tables_here()?,
        },
    })
}

fn own_tables_here() -> Result<Vec<Table>, SocketError> {
    own_tables(&mut Socket::open_to(Protocol::Netfilter)?)
}
