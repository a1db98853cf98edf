//! `netslot show SLOT --for VMM`: the lines that attach a VM to a slot, to be pasted; pure but for `run`.

use std::net::Ipv4Addr;

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
    /// The guest's address, netmask and gateway as a kernel's command line has them.
    ip: String,
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
        let [addr, gateway] = [guest.ip.addr, guest.gateway_ip].map(Ipv4Addr::from);
        let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(guest.ip.prefix)).unwrap_or_default());
        let ip = format!("ip={addr}::{gateway}:{mask}::eth0:off");
        Self { path, netns, tap: guest.tap.to_string(), mac: Mac(guest.mac).to_string(), mtu: guest.mtu, ip }
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
/// `mtu` only from 1.16 on: the guest is told by DHCP. The jailer of 1.16.0 alone refuses a path that is a link
/// (firecracker#5959); who runs as its user may open the tap only where the tap is that user's.
fn firecracker(slot: &Slot) -> Vec<Line> {
    let Slot { path, netns, tap, mac, mtu, ip } = slot;
    let interface = json!({ "iface_id": "net0", "host_dev_name": tap, "guest_mac": mac });
    let clone = json!({ "network_overrides": [{ "iface_id": "net0", "host_dev_name": tap }] });
    let with_mtu = json!({ "iface_id": "net0", "host_dev_name": tap, "guest_mac": mac, "mtu": mtu });
    let alone = format!("{} firecracker --api-sock /tmp/firecracker-{netns}.sock", slot.inside());
    vec![
        Line { r#for: "API: PUT /network-interfaces/net0", paste: interface.to_string() },
        Line { r#for: "the same from 1.16 on, for a guest without DHCP", paste: with_mtu.to_string() },
        Line { r#for: "boot_args of PUT /boot-source, for a guest without DHCP; beside the others", paste: ip.clone() },
        Line {
            r#for: "API: PUT /snapshot/load, from 1.12 on, if the snapshot's tap has another name; beside its other keys",
            paste: clone.to_string(),
        },
        Line {
            r#for: "jailer, any but 1.16.0; beside its other arguments, --uid and --gid as guest.owner and guest.group are set",
            paste: format!("--netns {path}"),
        },
        Line { r#for: "without a jailer", paste: alone },
    ]
}

/// By descriptor it touches no setting of the device, and needs no privilege for it; by name it wants CAP_NET_ADMIN, and
/// reads `/sys/class/net/<tap>/tun_flags`, which `ip netns exec` mounts for it. One tap queue is a pair of the device's.
/// It runs in the slot in either case: it asks for the tap's MTU by name, and where there is no such device it does not
/// start, or from April 2026 on tells the guest no MTU (cloud-hypervisor#8112).
fn cloud_hypervisor(slot: &Slot) -> Vec<Line> {
    let Slot { tap, mac, mtu, .. } = slot;
    let inside = format!("{} cloud-hypervisor", slot.inside());
    vec![
        Line {
            r#for: "by name; beside its other arguments",
            paste: format!("{inside} --net tap={tap},mac={mac},mtu={mtu},num_queues=2"),
        },
        Line {
            r#for: "by descriptor, where whoever starts it holds the lease's tap as descriptor 3",
            paste: format!("{inside} --net fd=3,mac={mac},num_queues=2"),
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
            ip: "ip=172.16.0.2::172.16.0.1:255.255.255.252::eth0:off".into(),
        };
        let firecracker = lines(Vmm::Firecracker, &slot);
        assert_eq!(
            firecracker[0].paste,
            r#"{"guest_mac":"06:00:ac:10:00:02","host_dev_name":"vm0","iface_id":"net0"}"#
        );
        assert_eq!(firecracker[4].paste, "--netns /run/netns/slot-0042");
        let qemu = &lines(Vmm::Qemu, &slot)[0].paste;
        assert!(
            qemu.starts_with("ip netns exec slot-0042 qemu-system-") && qemu.contains("ifname=vm0,script=no,"),
            "{qemu}"
        );
        let cloud = &lines(Vmm::CloudHypervisor, &slot)[1].paste;
        assert_eq!(cloud, "ip netns exec slot-0042 cloud-hypervisor --net fd=3,mac=06:00:ac:10:00:02,num_queues=2");
    }
}
