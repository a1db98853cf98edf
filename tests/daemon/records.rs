//! Records and pins that are not as this version left them: another version's are refused and left, an admin's hand is
//! found, and what is hidden is not lost.

use std::path::Path;
use std::process::Command;

use netslot::bpf::Maps;
use netslot::ledger::{Records, Store as _};
use netslot::slot::SlotId;
use netslot_abi::{LAYOUT_VERSION, LedgerRecord, ledger_flag};
use netslot_protocol::client::LeaseOptions;
use netslot_protocol::{LeaseId, Policy, State};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::common::{NETWORK_IP, World};
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
fn pin_layout(version: u32) {
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
    for (byte, text) in version.to_le_bytes().iter().zip(&mut value) {
        *text = format!("{byte:#04x}");
    }
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
    pin_layout(LAYOUT_VERSION + 1);
    let words = ["has layout 3, this netslot knows 2", "start the version that wrote it"];
    for args in [&["up"][..], &["serve"], &["serve", "--up"], &["destroy"], &["destroy", "--force"]] {
        world.netslot(args).is_refused(1, &words);
    }
    // Its own again, for which nothing has changed.
    pin_layout(LAYOUT_VERSION);
    assert_eq!(records().ledger(slot), before);
    assert_eq!(world.host_ends(), 2);
    let served = Served::start(&world, &["serve", "--up"]);
    assert_eq!(served.slot(held.id.slot).generation, held.id.generation);
    served.client().release(held.id).expect("ours");
}

/// Puts what a netslot of layout 1 wrote into the pinned maps: three leases, the second bound to a tenant, the third without
/// a guest. Its daemon was killed then, and the maps read with bpftool: a line is a key and its value.
fn write_layout_1() {
    let maps = [
        ("ledger", include_str!("layout1/ledger")),
        ("bindings", include_str!("layout1/bindings")),
        ("tenants", include_str!("layout1/tenants")),
    ];
    let spaced =
        |hex: &str| hex.as_bytes().chunks(2).map(|b| str::from_utf8(b).expect("hex")).collect::<Vec<_>>().join(" ");
    for (map, lines) in maps {
        for (key, value) in lines.lines().filter_map(|line| line.split_once(' ')) {
            let (key, value) = (spaced(key), spaced(value));
            bpftool(&format!("map update pinned {BPF_DIR}/{map} key hex {key} value hex {value}"));
        }
    }
    pin_layout(1);
}

#[test]
fn an_older_versions_pool_is_migrated_by_a_pass_with_its_leases_and_bindings() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 3");
    world.json(&["up"]);
    write_layout_1();
    // Its programs still run: nobody may be leased what they would pass otherwise.
    for args in [&["serve"][..], &["serve", "--replace"]] {
        world.netslot(args).is_refused(1, &["an older version's", "run 'netslot up'"]);
    }
    let migrated = world.json(&["up"]);
    assert_eq!((migrated["refreshed"].as_u64(), migrated["created"].as_u64()), (Some(3), Some(0)), "{migrated}");
    assert_eq!(world.json(&["up"])["refreshed"].as_u64(), Some(0), "once");
    let served = Served::start(&world, &["serve"]);
    let mut client = served.client();
    let flags = |slot| records().ledger(SlotId::new(slot).expect("in range")).flags;
    for (slot, tag, vni, own_stack) in
        [(0, "plain", None, 0), (1, "bound", Some(5001), 0), (2, "no-guest", None, ledger_flag::OWN_STACK)]
    {
        let found = served.slot(slot);
        let owner = found.owner.expect("leased");
        assert_eq!((found.state, found.generation, &*owner.tag), (State::Leased, 1, tag));
        assert_eq!(found.binding.map(|binding| binding.vni), vni, "{tag}");
        assert_eq!(flags(slot), own_stack, "{tag}");
        client.release(LeaseId { slot, generation: 1 }).expect("root's");
        served.wait_for(slot, State::Free);
    }
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
    let options = LeaseOptions { want_netns: true, own_stack: true, ..LeaseOptions::default() };
    let held = client.lease(&options).expect("free").remove(0);
    let netns = held.netns.as_ref().expect("asked for");
    let reaches = || world.in_netns(netns, "ping", &["-c1", "-W20", NETWORK_IP]);
    reaches();
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700")).expect("a second bpffs");
    // The daemon holds its maps, and goes on; a slot that has to be made anew waits, as that takes what is hidden.
    let other = client.lease(&LeaseOptions { want_netns: true, ..LeaseOptions::default() }).expect("free").remove(0);
    client.release(other.id).expect("ours");
    drop(client);
    served.until(|| served.log().contains("no leases are pinned below"), "it was not made anew, and nothing was said");
    assert_ne!(served.state(other.id.slot), State::Free);
    reaches();
    let world = served.kill();
    // Who comes now sees no leases, and must not take the slots for free, or down.
    for args in [&["serve"][..], &["serve", "--up"], &["up"], &["up", "--dry-run"], &["destroy"]] {
        let ended = world.netslot(args);
        assert_eq!(ended.code, 7, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("2 slots stand below /run/netslot, and no leases are pinned"), "{ended:?}");
    }
    reaches();
    umount2("/sys/fs/bpf", MntFlags::MNT_DETACH).expect("ours");
    let served = Served::start(world, &["serve", "--up"]);
    assert_eq!(served.slot(held.id.slot).generation, held.id.generation);
    reaches();
    served.wait_for(other.id.slot, State::Free);
    served.client().release(held.id).expect("ours");
}

#[test]
fn a_pool_whose_pins_are_gone_is_taken_down_by_force_alone() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    assert_eq!(world.netslot(&["up"]).code, 0);
    std::fs::remove_dir_all(BPF_DIR).expect("ours");
    let refused = world.netslot(&["up"]);
    assert!(refused.code == 7 && refused.stderr.contains("'netslot destroy --force'"), "{refused:?}");
    assert_eq!(world.netslot(&["destroy"]).code, 7);
    assert_eq!((world.netslot(&["destroy", "--force"]).code, world.netslot(&["up"]).code), (0, 0));
}
