//! The packet programs of a pass: opened for what was seen of the host, hung where they are missing, pinned when they hang
//! everywhere. What they do to packets, and which slot lacks them, is known elsewhere.

use std::io;
use std::net::IpAddr;

use netslot_abi::{ConfigRecord, forward};

use super::error::PassError;
use super::observe::Root;
use crate::bpf::record::{DUMMY_REMOTE_V4, DUMMY_REMOTE_V6, GENEVE_MAC};
use crate::bpf::{Datapath, Program, Settings, attach, told};
use crate::config::{Config, Tunnel};
use crate::netlink::{Batch, Socket, route};
use crate::plan::Blueprint;
use crate::slot::{IfIndex, SlotId};
use crate::underlay::{self, Underlay, UnderlayError};

/// What of the host the slots are made for.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The MTU of the slots' devices.
    pub mtu: u32,
    /// What the programs are told.
    pub record: ConfigRecord,
    /// Where the slots' tunnel devices believe to send, where the pool has them.
    pub dummy_remote: Option<IpAddr>,
    /// Whether root knows the way there, or has no uplink that it could lead by.
    dummy_is_routed: bool,
}

impl Ground {
    /// What the slots of the config should be here, without programs and rules.
    #[must_use]
    pub fn blueprint(&self, config: &Config) -> Blueprint {
        let blueprint = Blueprint::new(config, self.mtu);
        match self.dummy_remote {
            Some(remote) => blueprint.with_tunnels(config.vni_base, remote),
            None => blueprint,
        }
    }

    /// A host that has no default route yet, as in an initramfs, needs no uplink where the config says the MTU; a later
    /// pass tells the programs of it.
    ///
    /// # Errors
    /// [`UnderlayError`].
    pub fn find(config: &Config, root: &Root) -> Result<Self, UnderlayError> {
        let (mtu, uplink) = match (underlay::resolve(config, &root.links, &root.routes), config.mtu) {
            (Err(UnderlayError::NoDefaultRoute(_)), Some(mtu)) => (mtu, IfIndex(0)),
            (resolved, _) => resolved.map(|Underlay { mtu, index, .. }| (mtu, index))?,
        };
        let (underlay_v4, underlay_v6) = underlay::own_addresses(uplink, &root.addresses);
        let record = Settings { config, mtu, uplink, underlay_v4, underlay_v6 }.record();
        let dummy_remote = dummy_remote(config, &record);
        // Without an uplink there is no way yet that could lack.
        let dummy_is_routed = uplink.0 == 0 || root.routes.iter().any(|r| r.to == dummy_remote && r.index == uplink.0);
        Ok(Self { mtu, record, dummy_remote, dummy_is_routed })
    }
}

/// What the slots of a pool that stands with that MTU should be, without programs and rules.
///
/// # Errors
/// [`PassError::Datapath`].
pub fn standing_blueprint(config: &Config, mtu: u32) -> Result<Blueprint, PassError> {
    let blueprint = Blueprint::new(config, mtu);
    let told = told::read(&config.bpf_dir)?;
    Ok(match told.and_then(|record| dummy_remote(config, &record)) {
        Some(remote) => blueprint.with_tunnels(config.vni_base, remote),
        None => blueprint,
    })
}

/// A device has one family of remotes: IPv4, unless this host has an IPv6 address alone.
fn dummy_remote(config: &Config, record: &ConfigRecord) -> Option<IpAddr> {
    let over_v6 = record.underlay_v4 == [0; 4] && record.underlay_v6 != [0; 16];
    let dummy = if over_v6 { DUMMY_REMOTE_V6.into() } else { DUMMY_REMOTE_V4.into() };
    Some(dummy).filter(|_| config.tunnel == Tunnel::Geneve)
}

/// The programs of the pool that stands.
///
/// # Errors
/// [`PassError::Datapath`]; [`PassError::File`] where none are pinned.
pub fn pinned(config: &Config) -> Result<Datapath, PassError> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "there are none; netslot up loads them");
    let missing =
        || PassError::File { call: "find programs pinned below", path: config.bpf_dir.clone(), error: none() };
    Datapath::adopted(&config.bpf_dir, None)?.ok_or_else(missing)
}

/// The programs that are to run.
#[derive(Debug)]
pub struct Programs {
    datapath: Datapath,
    /// To be routed by the uplink, and not yet.
    dummy_remote: Option<IpAddr>,
}

impl Programs {
    /// The pinned ones where they are told the same, else loaded ones.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn open(config: &Config, ground: &Ground) -> Result<Self, PassError> {
        Ok(Self::of(ground, Datapath::open(&config.bpf_dir, &ground.record)?))
    }

    /// The pinned ones whatever they are told, for work on a few slots of a pool. Never loaded ones: they would come with
    /// maps of their own, and all other slots, whose leases stand in those that are out of sight, would pass nothing.
    ///
    /// # Errors
    /// [`PassError::Datapath`]; [`PassError::File`] where none are pinned.
    pub fn of_pool(config: &Config, ground: &Ground) -> Result<Self, PassError> {
        Ok(Self::of(ground, pinned(config)?))
    }

    /// The pinned ones that are told the same, if there are any; changes nothing.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn look(config: &Config, ground: &Ground) -> Result<Option<Self>, PassError> {
        let adopted = Datapath::adopted(&config.bpf_dir, Some(&ground.record))?;
        Ok(adopted.map(|datapath| Self::of(ground, datapath)))
    }

    fn of(ground: &Ground, datapath: Datapath) -> Self {
        let dummy_remote = ground.dummy_remote.filter(|_| !ground.dummy_is_routed);
        Self { datapath, dummy_remote }
    }

    /// The number of the taps' program in the kernel.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn tap_program(&self) -> Result<u32, PassError> {
        Ok(self.datapath.id(Program::GuestIn)?)
    }

    /// Whether all that hang in root do, and the tunnel devices' packets reach them.
    ///
    /// # Errors
    /// [`PassError::Attach`].
    pub fn are_attached(&self, root: &mut Socket) -> Result<bool, PassError> {
        Ok(self.dummy_remote.is_none() && attach::are_attached(root, &self.datapath)?)
    }

    /// Appends the two messages that put the program on a slot's tap.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn put_on_tap(&self, batch: &mut Batch, slot: SlotId) -> Result<(), PassError> {
        Ok(attach::tap(batch, &self.datapath, slot)?)
    }

    /// Hangs the others on the blocks and the uplink, unless they hang there. A block ends with its last device, so this
    /// is asked after devices have joined and before they are raised.
    ///
    /// # Errors
    /// [`PassError::Attach`].
    pub fn attach(&self, root: &mut Socket) -> Result<(), PassError> {
        if self.are_attached(root)? {
            return Ok(());
        }
        attach::host_ends(root, &self.datapath)?;
        attach::uplink(root, &self.datapath)?;
        let uplink = IfIndex(self.datapath.record().uplink);
        let mut batch = Batch::new();
        if uplink.0 != 0 && self.datapath.record().forward == forward::STACK {
            route::forward(&mut batch, uplink);
        }
        if let Some(dummy) = self.dummy_remote {
            // Nobody is there: what goes there meets `uplink_out`, which sends it on to whom the slot is bound to.
            route::add_host_route(&mut batch, dummy, uplink);
            route::add_neighbour(&mut batch, uplink, dummy, GENEVE_MAC);
        }
        match root.send(&mut batch)?.into_iter().next() {
            Some(refusal) => Err(PassError::RefusedAll { what: "make the uplink take the slots' packets", refusal }),
            None => Ok(()),
        }
    }

    /// Pins them, now that they hang everywhere.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn commit(&self) -> Result<(), PassError> {
        Ok(self.datapath.commit()?)
    }
}
