//! `netslot show SLOT --for VMM`: the lines that attach a VM to a slot, to be pasted; pure but for `run`.

use netslot_protocol::State;
use netslot_protocol::types::Guest;
use serde::Serialize;
use serde_json::json;

use super::output::Output;
use super::{Context, Exit, Failure, daemon};
use crate::address;
use crate::cli::Vmm;
use crate::slot::{Mac, SlotId};

/// Something to paste, and where.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// Where it goes.
    r#for: &'static str,
    /// What to paste.
    paste: String,
}

/// What the lines are made of.
#[derive(Debug)]
struct Slot {
    /// As `ip netns` knows it.
    netns: String,
    /// As a path.
    path: String,
    tap: String,
    mac: String,
    mtu: u32,
}

/// Shows.
pub(super) fn run(slot: SlotId, vmm: Vmm, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let mut client = daemon::connect(context)?;
    if client.get(slot.number())?.0.state != State::Leased {
        log::warn!("slot {slot} is not leased: the lines hold once it is");
    }
    let pool = &client.hello().pool;
    let lines = lines(vmm, &Slot::new(slot, &pool.guest, &pool.netns_dir));
    if out.json() {
        out.value(&lines)?;
    } else {
        let text = |line: &Line| format!("# {}\n{}\n", line.r#for, line.paste);
        out.text(&lines.iter().map(text).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Ok)
}

impl Slot {
    fn new(slot: SlotId, guest: &Guest, netns_dir: &str) -> Self {
        let netns = address::vault_name(slot);
        let path = format!("{netns_dir}/{netns}");
        Self { path, netns, tap: guest.tap.to_string(), mac: Mac(guest.mac).to_string(), mtu: guest.mtu }
    }

    /// Runs what follows inside the slot.
    fn inside(&self) -> String {
        format!("ip netns exec {}", self.netns)
    }
}

fn lines(vmm: Vmm, slot: &Slot) -> Vec<Line> {
    match vmm {
        Vmm::Firecracker => firecracker(slot),
        Vmm::CloudHypervisor => cloud_hypervisor(slot),
        Vmm::Qemu => qemu(slot),
    }
}

/// It opens the tap by name in its own namespace, without IFF_MULTI_QUEUE. Its API takes no key that it does not know, and
/// `mtu` only from 1.16 on: the guest is told by DHCP.
fn firecracker(slot: &Slot) -> Vec<Line> {
    let Slot { path, tap, mac, mtu, .. } = slot;
    let interface = json!({ "iface_id": "net0", "host_dev_name": tap, "guest_mac": mac });
    let clone = json!({ "network_overrides": [{ "iface_id": "net0", "host_dev_name": tap }] });
    let with_mtu = json!({ "iface_id": "net0", "host_dev_name": tap, "guest_mac": mac, "mtu": mtu });
    vec![
        Line { r#for: "API: PUT /network-interfaces/net0", paste: interface.to_string() },
        Line { r#for: "the same from 1.16 on, for a guest without DHCP", paste: with_mtu.to_string() },
        Line { r#for: "API: PUT /snapshot/load, from 1.12 on; beside its other keys", paste: clone.to_string() },
        Line { r#for: "jailer, from 1.16.1 on; beside its other arguments", paste: format!("--netns {path}") },
        Line { r#for: "without a jailer", paste: format!("{} firecracker --api-sock /tmp/fc.sock", slot.inside()) },
    ]
}

/// By descriptor it touches no setting of the device, and needs no privilege; by name it wants CAP_NET_ADMIN, and reads
/// `/sys/class/net/<tap>/tun_flags`, which `ip netns exec` mounts for it. One tap queue is a pair of the device's.
fn cloud_hypervisor(slot: &Slot) -> Vec<Line> {
    let Slot { tap, mac, mtu, .. } = slot;
    let by_name = format!("{} cloud-hypervisor --net tap={tap},mac={mac},mtu={mtu},num_queues=2", slot.inside());
    vec![
        Line { r#for: "by name; beside its other arguments", paste: by_name },
        Line {
            r#for: "by descriptor, where whoever starts it holds the lease's tap as descriptor 3",
            paste: format!("--net fd=3,mac={mac},num_queues=2"),
        },
    ]
}

/// `script=no`: the tap is up and on its bridge already.
fn qemu(slot: &Slot) -> Vec<Line> {
    let Slot { tap, mac, mtu, .. } = slot;
    let device = format!("-device virtio-net-pci,netdev=net0,mac={mac},host_mtu={mtu}");
    let by_name = format!("-netdev tap,id=net0,ifname={tap},script=no,downscript=no {device}");
    vec![
        Line {
            r#for: "by name; beside its other arguments",
            paste: format!("{} qemu-system-{} {by_name}", slot.inside(), std::env::consts::ARCH),
        },
        Line {
            r#for: "by descriptor, where whoever starts it holds the lease's tap as descriptor 3",
            paste: format!("-netdev tap,id=net0,fd=3 {device}"),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_slots_own_things_and_no_other_key() {
        let slot = Slot {
            netns: "slot-0042".into(),
            path: "/run/netns/slot-0042".into(),
            tap: "vm0".into(),
            mac: "06:00:ac:10:00:02".into(),
            mtu: 1_430,
        };
        let firecracker = lines(Vmm::Firecracker, &slot);
        assert_eq!(
            firecracker[0].paste,
            r#"{"guest_mac":"06:00:ac:10:00:02","host_dev_name":"vm0","iface_id":"net0"}"#
        );
        assert_eq!(firecracker[3].paste, "--netns /run/netns/slot-0042");
        let qemu = &lines(Vmm::Qemu, &slot)[0].paste;
        assert!(
            qemu.starts_with("ip netns exec slot-0042 qemu-system-") && qemu.contains("ifname=vm0,script=no,"),
            "{qemu}"
        );
        let cloud = &lines(Vmm::CloudHypervisor, &slot)[1].paste;
        assert_eq!(cloud, "--net fd=3,mac=06:00:ac:10:00:02,num_queues=2");
    }
}
