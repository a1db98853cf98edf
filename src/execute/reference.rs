//! A slot that nobody ever leases: made by the same messages as the others, beside a namespace that plays the host, and
//! part of no pool. What the kernel shows of it is what it must show of a slot that is as it was made.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::error::PassError;
use super::programs::{self, Ground};
use super::template::Template;
use super::{messages, observe};
use crate::bpf::attach;
use crate::config::Config;
use crate::netlink::{Batch, Socket, route};
use crate::plan::{Blueprint, Part, SlotSpec};
use crate::slot::SlotId;
use crate::sys::{netns, tap, thread};

/// The slot and its host; both go with this value.
#[derive(Debug)]
pub struct Reference {
    spec: SlotSpec,
    netns: OwnedFd,
    _host: OwnedFd,
}

impl Reference {
    /// Makes it, but for its rules, which are held against their image. Nothing outside of its two namespaces changes.
    ///
    /// # Errors
    /// [`PassError`]: EPERM without CAP_SYS_ADMIN.
    pub fn make(config: &Config, blueprint: &Blueprint) -> Result<Self, PassError> {
        let datapath = programs::pinned(config)?;
        let path = PathBuf::from("/dev/net");
        let dev_net = File::open(&path).map_err(|error| PassError::File { call: "open", path, error })?;
        let template = Template::make(blueprint.whole().has(Part::HostRoute6), blueprint.has_tunnels())?;
        let spec = blueprint.slot(SlotId::new(0).expect("a pool has a first slot"));
        thread::apart(|| {
            netns::make().map_err(|errno| PassError::Call { call: "unshare(CLONE_NEWNET)", errno })?;
            let mut outside = Socket::open()?;
            let host = outside.netns()?;
            template.make_namespace()?;
            let mut inside = Socket::open()?;
            let netns = inside.netns()?;
            make_tap(&spec, dev_net.as_fd())?;
            if let Some(tunnel) = &spec.tunnel {
                let mut batch = Batch::new();
                route::add_geneve(&mut batch, tunnel, netns.as_fd());
                send(&spec, &mut batch, &[Part::Tunnel], &mut outside)?;
            }
            let wanted = |part: &Part| blueprint.whole().has(*part);
            let parts = || Part::ALL.into_iter().filter(wanted);
            make(&spec, parts().filter(|part| !is_outside(*part)), &mut inside, host.as_fd())?;
            make(&spec, parts().filter(|part| *part == Part::HostEndUp), &mut outside, host.as_fd())?;
            let mut batch = Batch::new();
            attach::tap(&mut batch, &datapath, spec.slot)?;
            send(&spec, &mut batch, &[Part::TapProgram; 2], &mut inside)?;
            Ok(Self { spec, netns, _host: host })
        })
        .map_err(|errno| PassError::Call { call: "start a thread", errno })?
    }

    /// Which slot it is made as.
    #[must_use]
    pub const fn spec(&self) -> &SlotSpec {
        &self.spec
    }

    /// Its namespace.
    #[must_use]
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

/// What the slots of a pool should be, as a pass would find it now, without their rules.
///
/// # Errors
/// [`PassError`].
pub fn blueprint(config: &Config) -> Result<Blueprint, PassError> {
    let root = observe::root(&mut Socket::open()?)?;
    Ok(Ground::find(config, &root)?.blueprint(config))
}

fn is_outside(part: Part) -> bool {
    part.phase() == crate::plan::Phase::Host
}

fn make_tap(spec: &SlotSpec, dev_net: BorrowedFd<'_>) -> Result<(), PassError> {
    let (owner, group) = spec.tap_owner;
    let tap = tap::Spec { name: spec.tap.name, index: spec.tap.index, owner, group };
    tap::make(dev_net, &tap).map_err(|error| PassError::Tap { slot: spec.slot, error })
}

fn make(
    spec: &SlotSpec,
    parts: impl Iterator<Item = Part>,
    socket: &mut Socket,
    host: BorrowedFd<'_>,
) -> Result<(), PassError> {
    let (mut batch, mut asked) = (Batch::new(), Vec::new());
    for part in parts {
        if messages::append(&mut batch, part, spec, host) {
            asked.push(part);
        }
    }
    send(spec, &mut batch, &asked, socket)
}

fn send(spec: &SlotSpec, batch: &mut Batch, asked: &[Part], socket: &mut Socket) -> Result<(), PassError> {
    match socket.send(batch)?.into_iter().next() {
        Some(refusal) => Err(PassError::Refused { slot: spec.slot, part: asked[refusal.index], refusal }),
        None => Ok(()),
    }
}
