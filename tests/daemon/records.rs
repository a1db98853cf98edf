//! Records and pins that are not as this version left them: another version's are refused and left, an admin's hand is
//! found, and what is hidden is not lost.

use std::path::Path;
use std::process::Command;

use netslot::bpf::Maps;
use netslot::ledger::{Records, Store as _};
use netslot::slot::SlotId;
use netslot_abi::LedgerRecord;
use netslot_protocol::client::LeaseOptions;
use netslot_protocol::{Policy, State};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::common::World;
use crate::served::{Served, lease};

const BPF_DIR: &str = "/sys/fs/bpf/netslot";

fn records() -> Records<netslot::bpf::MapCells> {
    let maps = Maps::open(Path::new(BPF_DIR)).expect("readable").expect("pinned");
    Records(maps.cells().expect("mapped"))
}

#[track_caller]
fn bpftool(args: &str) -> String {
    let output = Command::new("bpftool").args(args.split_ascii_whitespace()).output().expect("bpftool is there");
    assert!(output.status.success(), "bpftool {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Pins a configuration like the one that is pinned, but with that layout, in its place.
fn pin_layout(version: u8) {
    let config = format!("{BPF_DIR}/config");
    let shown: serde_json::Value =
        serde_json::from_str(&bpftool(&format!("-j map show pinned {config}"))).expect("JSON");
    let bytes = shown["bytes_value"].as_u64().expect("its size");
    let other = format!("{BPF_DIR}/other");
    bpftool(&format!("map create {other} type array key 4 value {bytes} entries 1 name config"));
    let dumped: serde_json::Value =
        serde_json::from_str(&bpftool(&format!("-j map dump pinned {config}"))).expect("JSON");
    let value = dumped[0]["value"].as_array().expect("bytes").iter().map(|byte| byte.as_str().expect("hex").to_owned());
    let mut value: Vec<String> = value.collect();
    value[0] = format!("{version:#04x}");
    bpftool(&format!("map update pinned {other} key 0 0 0 0 value {}", value.join(" ")));
    std::fs::rename(&other, &config).expect("moved over it");
}

#[test]
fn records_of_a_layout_that_is_not_known_are_refused_and_left() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let held = lease(&mut served.client(), Policy::Explicit);
    assert_eq!(served.stop(), 0);
    let slot = SlotId::new(held.id.slot).expect("in range");
    let before = records().ledger(slot);
    pin_layout(2);
    let words = ["has layout 2, this netslot knows 1", "start the version that wrote it"];
    for args in [&["up"][..], &["serve"], &["serve", "--up"], &["destroy"], &["destroy", "--force"]] {
        world.netslot(args).is_refused(1, &words);
    }
    // Its own again, for which nothing has changed.
    pin_layout(1);
    assert_eq!(records().ledger(slot), before);
    assert_eq!(world.host_ends(), 2);
    let served = Served::start(&world, &["serve", "--up"]);
    assert_eq!(served.slot(held.id.slot).generation, held.id.generation);
    served.client().release(held.id).expect("ours");
}

#[test]
fn an_edited_record_costs_its_slot_and_no_other() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 3");
    let mut client = served.client();
    let (edited, kept) = (lease(&mut client, Policy::Explicit), lease(&mut client, Policy::Explicit));
    let slot = SlotId::new(edited.id.slot).expect("in range");
    drop(client);
    let world = served.kill();
    // A state that no version writes. (Edited under its hands, a daemon of this build, with debug assertions, ends.)
    let garbled = LedgerRecord { commit: 0xffff_ffff, ..records().ledger(slot) };
    records().store_ledger(slot, &garbled);
    let served = Served::start(world, &["serve"]);
    assert_eq!(served.slot(kept.id.slot).generation, kept.id.generation);
    served.wait_for(edited.id.slot, State::Free);
    assert!(served.log().contains("its record holds an unknown state"), "{}", served.log());
    served.client().release(kept.id).expect("ours");
}

#[test]
fn another_bpffs_over_ours_hides_the_pool_and_loses_nothing() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let mut client = served.client();
    let held = lease(&mut client, Policy::Explicit);
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700")).expect("a second bpffs");
    // The daemon holds its maps, and goes on.
    let other = client.lease(&LeaseOptions { want_netns: true, ..LeaseOptions::default() }).expect("free").remove(0);
    client.release(other.id).expect("ours");
    drop(client);
    let world = served.kill();
    // One that comes now sees no leases, and must not take the slots for free.
    let ended = world.netslot(&["serve"]);
    assert!(ended.code != 0 && !ended.stderr.trim().is_empty(), "{ended:?}");
    umount2("/sys/fs/bpf", MntFlags::MNT_DETACH).expect("ours");
    let served = Served::start(world, &["serve"]);
    assert_eq!(served.slot(held.id.slot).generation, held.id.generation);
    served.client().release(held.id).expect("ours");
}
