//! Little memory and a full file system: told or got by, and the next run mends what is left.

use std::process::Command;

use netslot_protocol::State as SlotState;
use netslot_protocol::client::LeaseOptions;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::common::{Ended, World};
use crate::loops::{must, pool};
use crate::served::Served;
use crate::state::{self, RUN_DIR, State};

#[test]
fn a_pass_with_too_little_memory_says_so_and_the_next_one_finishes() {
    let Some((world, whole)) = pool("") else { return };
    must(&world, &["destroy"]);
    let mut ends = 0;
    // From too little to begin with to enough, in KiB of address space.
    for kib in [8, 14, 20, 32, 512].map(|mib: u64| mib * 1_024) {
        let plain = world.command(&["up"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={}", kib * 1_024)).arg(plain.get_program()).args(plain.get_args());
        let ended = Ended::of(command.output().expect("prlimit is there"));
        if ended.code != 0 {
            ends += 1;
            // The allocator's last word is an abort, and the loader's that it cannot load; all others are the command's.
            assert!(ended.code == -1 || !ended.stderr.trim().is_empty(), "{kib} KiB: {ended:?}");
            must(&world, &["up"]);
        }
        State::of(&world).must_be(&whole, &format!("{kib} KiB: {}", ended.stderr));
        must(&world, &["destroy"]);
    }
    assert!((1..5).contains(&ends), "{ends} of 5 were too little");
}

#[test]
fn a_full_run_directory_is_told_and_nothing_is_lost_by_it() {
    let Some(world) = World::new() else { return };
    state::cover_knobs();
    world.configure("slots = 2\nthreads = 1");
    std::fs::create_dir_all(RUN_DIR).expect("a directory");
    let full = |inodes: u32| {
        let options = format!("size=4k,nr_inodes={inodes},mode=0755");
        mount(Some("full"), RUN_DIR, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).expect("a small one");
    };
    for inodes in 1..=4 {
        full(inodes);
        let ended = world.netslot(&["up"]);
        assert!(ended.code != 0 && ended.stderr.contains("No space left on device"), "{inodes} inodes: {ended:?}");
        umount2(RUN_DIR, MntFlags::MNT_DETACH).expect("ours");
        must(&world, &["up"]);
        assert!(world.netslot(&["up", "--dry-run"]).stdout.ends_with("nothing to do\n"));
        must(&world, &["destroy"]);
    }
    // One that fills up under a daemon: leases go on, as all that they need is there since the start.
    must(&world, &["up"]);
    let served = Served::start(&world, &["serve"]);
    mount(None::<&str>, "/run", None::<&str>, MsFlags::MS_REMOUNT, Some("size=2m")).expect("made small");
    let rest = std::fs::write("/run/rest", vec![0; 4 << 20]).expect_err("more than there is");
    assert_eq!(rest.kind(), std::io::ErrorKind::StorageFull);
    std::fs::write("/run/one-more", [0; 8_192]).expect_err("full");
    let mut client = served.client();
    let lease = client.lease(&LeaseOptions { want_netns: true, ..LeaseOptions::default() }).expect("free").remove(0);
    client.release(lease.id).expect("ours");
    drop(client);
    std::fs::remove_file("/run/rest").expect("ours");
    assert_eq!(served.stop(), 0);
    must(&world, &["destroy"]);
}

#[test]
fn a_name_that_there_is_no_room_for_is_made_later_and_a_lease_by_name_alone_is_refused() {
    let Some(world) = World::new() else { return };
    std::fs::create_dir_all("/run/netns").expect("a directory");
    let inodes = |flags, most: u32| {
        let options = format!("nr_inodes={most},mode=0755");
        mount(Some("names"), "/run/netns", Some("tmpfs"), flags, Some(options.as_str())).expect("a small one");
    };
    inodes(MsFlags::empty(), 1);
    let served = Served::up(&world, "slots = 2");
    let mut client = served.client();
    let held = client.lease(&LeaseOptions { want_netns: true, ..LeaseOptions::default() }).expect("free").remove(0);
    served.until(|| served.log().contains("symlink: ENOSPC"), "the missing name was never told");
    // The name is all that this one would get.
    let refused = client.lease(&LeaseOptions::default()).expect_err("there is no way into it").to_string();
    let words = ["/run/netns/slot-0001", "symlink", "No space left on device", "descriptor"];
    assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    served.wait_for(1, SlotState::Free);
    assert!(!held.netns_path.exists());
    inodes(MsFlags::MS_REMOUNT, 100);
    served.until(|| held.netns_path.exists(), "the name was not tried again");
    let by_name = client.lease(&LeaseOptions::default()).expect("free").remove(0);
    assert!(by_name.netns_path.exists());
    [held, by_name].into_iter().for_each(|lease| client.release(lease.id).expect("ours"));
    drop(client);
    assert_eq!(served.stop(), 0);
    must(&world, &["destroy"]);
}
