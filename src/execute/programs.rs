//! The packet programs of a pass: opened for what was seen of the host, hung where they are missing, pinned when they hang
//! everywhere. What they do to packets, and which slot lacks them, is known elsewhere.

use super::error::PassError;
use super::observe::Root;
use crate::bpf::{Datapath, Program, Settings, attach};
use crate::config::Config;
use crate::netlink::{Batch, Socket, route};
use crate::slot::{IfIndex, SlotId};
use crate::underlay::{self, Underlay, UnderlayError};
use netslot_abi::ConfigRecord;

/// What of the host the slots are made for.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The MTU of the slots' devices.
    pub mtu: u32,
    /// What the programs are told.
    pub record: ConfigRecord,
}

impl Ground {
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
        Ok(Self { mtu, record })
    }
}

/// The programs that are to run.
#[derive(Debug)]
pub struct Programs {
    datapath: Datapath,
    forward: bool,
}

impl Programs {
    /// The pinned ones where they are told the same, else loaded ones.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn open(config: &Config, record: &ConfigRecord) -> Result<Self, PassError> {
        Ok(Self::of(config, Datapath::open(&config.bpf_dir, record)?))
    }

    /// The pinned ones whatever they are told, for work on a few slots of a pool; only where there are none, loaded ones.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn of_pool(config: &Config, record: &ConfigRecord) -> Result<Self, PassError> {
        match Datapath::adopted(&config.bpf_dir, None)? {
            Some(datapath) => Ok(Self::of(config, datapath)),
            None => Self::open(config, record),
        }
    }

    /// The pinned ones that are told the same, if there are any; changes nothing.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn look(config: &Config, record: &ConfigRecord) -> Result<Option<Self>, PassError> {
        Ok(Datapath::adopted(&config.bpf_dir, Some(record))?.map(|datapath| Self::of(config, datapath)))
    }

    /// The pinned ones whatever they are told, if there are any; changes nothing.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn pinned(config: &Config) -> Result<Option<Self>, PassError> {
        Ok(Datapath::adopted(&config.bpf_dir, None)?.map(|datapath| Self::of(config, datapath)))
    }

    fn of(config: &Config, datapath: Datapath) -> Self {
        Self { datapath, forward: config.forward == crate::config::Forward::Stack }
    }

    /// The number of the taps' program in the kernel.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn tap_program(&self) -> Result<u32, PassError> {
        Ok(self.datapath.id(Program::GuestIn)?)
    }

    /// Whether all that hang in root do.
    ///
    /// # Errors
    /// [`PassError::Attach`].
    pub fn are_attached(&self, root: &mut Socket) -> Result<bool, PassError> {
        Ok(attach::are_attached(root, &self.datapath)?)
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
        let uplink = self.datapath.record().uplink;
        if self.forward && uplink != 0 {
            let mut batch = Batch::new();
            route::forward(&mut batch, IfIndex(uplink));
            if let Some(refusal) = root.send(&mut batch)?.into_iter().next() {
                return Err(PassError::RefusedAll { what: "let the uplink forward packets to the slots", refusal });
            }
        }
        Ok(())
    }

    /// Pins them, now that they hang everywhere.
    ///
    /// # Errors
    /// [`PassError::Datapath`].
    pub fn commit(&self) -> Result<(), PassError> {
        Ok(self.datapath.commit()?)
    }
}
