//! The boot pass against the real kernel: made, adopted, repaired, grown, shrunk, stopped and refused, always through
//! the binary.

mod common;

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Ended, HOST_IP, NETWORK_IP, World};
use netslot::sys::vault::Vault;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const RUN_DIR: &str = "/run/netslot";

/// Whether a new namespace takes its sysctls from the one its maker stands in; 3 = it does.
const INHERIT: &str = "/proc/sys/net/core/devconf_inherit_init_net";

#[test]
fn a_slot_reaches_the_host_and_the_network_and_is_reached() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 3");
    let made = world.json(&["up"]);
    assert_eq!((made["slots"].as_u64(), made["created"].as_u64()), (Some(3), Some(3)));
    assert_eq!(world.host_ends(), 3);
    for number in 0..3 {
        let slot = world.slot(number);
        assert!(
            !world.works_in(&slot, "ping", &["-c1", "-W1", NETWORK_IP]),
            "nothing leaves a slot that is not leased"
        );
        world.open_slot(number);
        for target in [HOST_IP, NETWORK_IP] {
            world.in_netns(&slot, "ping", &["-c1", "-W20", target]);
        }
        let own = format!("100.64.0.{}", number + 2);
        world.in_netns(&world.network, "ping", &["-c1", "-W20", &own]);
        let tap = world.in_netns(&slot, "ip", &["-d", "link", "show", "tap0"]);
        for word in ["persist on", "vnet_hdr on", "master br0", "mtu 1430"] {
            assert!(tap.contains(word), "'{word}' is not in: {tap}");
        }
    }
}

#[test]
fn who_opens_the_tap_brings_the_bridge_up_and_leaves_it_as_it_was() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    world.json(&["up"]);
    let slot = world.slot(0);
    let has_carrier = || {
        let bridge = world.in_netns(&slot, "ip", &["-brief", "link", "show", "type", "bridge"]);
        bridge.contains("LOWER_UP") && !bridge.contains("NO-CARRIER")
    };
    assert!(!has_carrier(), "nobody holds the tap");
    let held = netslot::sys::netns::within(&slot, || {
        let dev_net = fs::File::open("/dev/net").expect("there");
        netslot::sys::tap::open(dev_net.as_fd(), &"tap0".parse().expect("a name")).expect("nobody holds it")
    })
    .expect("entered");
    let began = Instant::now();
    while !has_carrier() {
        assert!(began.elapsed() < Duration::from_secs(180), "the bridge has no carrier though the tap is open");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(held);
    assert_eq!(world.netslot(&["up", "--dry-run"]).stdout, "adopt   1 slot as they are\nnothing to do\n");
}

#[test]
fn a_run_directory_under_a_covered_mount_is_taken_for_what_it_is() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    world.json(&["up"]);
    // A newer /run over the old one: what was mounted below the old one is still in the mount table.
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("a newer /run");
    world.ip("link del slot0");
    let made = Ended::of(
        Command::new(common::binary()).args(["--quiet", "--json", "up", "--slots", "1"]).output().expect("started"),
    );
    assert_eq!(made.code, 0, "{made:?}");
}

#[test]
fn the_second_pass_adopts_and_changes_nothing() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 4");
    world.json(&["up"]);
    let before = world.links();
    let again = world.json(&["up"]);
    assert_eq!((again["adopted"].as_u64(), again["created"].as_u64()), (Some(4), Some(0)));
    assert_eq!(world.links(), before);
}

#[test]
fn whatever_is_missing_is_made_and_what_is_wrong_is_made_anew() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 8");
    world.json(&["up"]);
    world.in_netns(&world.slot(0), "ip", &["link", "del", "tap0"]);
    world.in_netns(&world.slot(1), "ip", &["link", "del", "br0"]);
    world.in_netns(&world.slot(2), "ip", &["route", "del", "default"]);
    world.ip("link set slot3 down");
    world.ip("link del slot4");
    world.in_netns(&world.slot(5), "ip", &["link", "set", "br0", "address", "02:00:00:00:00:01"]);
    world.in_netns(&world.slot(6), "ip", &["addr", "add", "192.0.2.1/24", "dev", "br0"]);
    let plan = world.netslot(&["up", "--dry-run"]);
    for line in [
        "adopt   1 slot",
        "repair  slot 0: tap, tap on bridge, program on tap, tap up",
        "repair  slot 2: default route",
        "remove  slot 5: br0 has MAC 02:00:00:00:00:01, not 06:00:ac:10:00:01",
        "remove  slot 6: an address that is not the slot's: 192.0.2.1",
    ] {
        assert!(plan.stdout.contains(line), "'{line}' is not in:\n{}", plan.stdout);
    }
    let mended = world.json(&["up"]);
    assert_eq!(
        ["adopted", "repaired", "created", "removed"].map(|k| mended[k].as_u64()),
        [Some(1), Some(5), Some(2), Some(2)]
    );
    assert_eq!(world.netslot(&["up", "--dry-run"]).stdout, "adopt   8 slots as they are\nnothing to do\n");
    for number in 0..8 {
        world.open_slot(number);
        world.in_netns(&world.slot(number), "ping", &["-c1", "-W20", HOST_IP]);
    }
}

#[test]
fn a_pool_grows_and_shrinks_with_the_config() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 3");
    world.json(&["up"]);
    world.configure("slots = 5");
    let grown = world.json(&["up"]);
    assert_eq!((grown["adopted"].as_u64(), grown["created"].as_u64()), (Some(3), Some(2)));
    world.configure("slots = 2");
    let shrunk = world.json(&["up"]);
    assert_eq!((shrunk["adopted"].as_u64(), shrunk["removed"].as_u64()), (Some(2), Some(3)));
    assert_eq!((world.slots(), world.host_ends()), (vec![0, 1], 2));
}

#[test]
fn a_changed_mtu_makes_the_slots_anew() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 2\nmtu = 1400");
    world.json(&["up"]);
    world.configure("slots = 2\nmtu = 1300");
    assert_eq!(world.json(&["up"])["removed"].as_u64(), Some(2));
    assert!(world.in_netns(&world.slot(1), "ip", &["link", "show", "up0"]).contains("mtu 1300"));
}

#[test]
fn a_pass_in_two_rounds_makes_what_one_makes() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 6\nready_after = 2");
    assert_eq!(world.json(&["up"])["created"].as_u64(), Some(6));
    assert!(world.netslot(&["up", "--dry-run"]).stdout.ends_with("nothing to do\n"));
}

#[test]
fn with_ipv6_a_slot_has_both_families() {
    let Some(world) = World::new() else { return };
    world.configure(
        "slots = 2\nslot_cidr6 = \"fd00:6e73::/64\"\n[guest]\nip6 = \"fd00:6775::2/64\"\ngateway_ip6 = \"fd00:6775::1\"",
    );
    world.ip("addr add fd00:1::1/64 dev uplink0 nodad");
    world.json(&["up"]);
    let slot = world.slot(1);
    world.open_slot(1);
    world.in_netns(&slot, "ping", &["-c1", "-W20", "fd00:1::1"]);
    world.in_netns(&slot, "ping", &["-c1", "-W20", HOST_IP]);
    assert_eq!(world.netslot(&["up", "--dry-run"]).stdout, "adopt   2 slots as they are\nnothing to do\n");
}

#[test]
fn a_slot_has_its_sysctls_whether_the_kernel_hands_them_on_or_not() {
    let Some(world) = World::new() else { return };
    for inherit in ["3", "0"] {
        let _knob = world.host_knob(INHERIT, inherit);
        world.configure("slots = 1");
        let ended = world.netslot(&["up"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stderr.contains("devconf_inherit_init_net"), inherit == "0", "{ended:?}");
        let slot = world.slot(0);
        for (path, value) in [
            ("ipv4/conf/up0/forwarding", "1\n"),
            ("ipv4/conf/br0/rp_filter", "1\n"),
            ("ipv6/conf/up0/accept_ra", "0\n"),
            ("ipv6/conf/br0/addr_gen_mode", "1\n"),
            ("ipv6/conf/up0/dad_transmits", "0\n"),
            ("ipv4/tcp_no_metrics_save", "1\n"),
        ] {
            assert_eq!(world.in_netns(&slot, "cat", &[&format!("/proc/sys/net/{path}")]), value, "{path}");
        }
        world.json(&["destroy"]);
    }
}

#[test]
fn a_slot_looks_the_same_whether_its_sysctls_were_handed_on_or_written() {
    let Some(world) = World::new() else { return };
    for more in [
        "",
        "slot_cidr6 = \"fd00:6e73::/64\"\nguest.ip6 = \"fd00::2/64\"\nguest.gateway_ip6 = \"fd00::1\"",
        "tunnel = \"off\"",
    ] {
        world.configure(&format!("slots = 1\n{more}"));
        for made in ["3", "0"] {
            let knob = world.host_knob(INHERIT, made);
            world.json(&["up"]);
            drop(knob);
            // What it is held against is made in one way or the other, too.
            for held_against in ["0", "3"] {
                let _knob = world.host_knob(INHERIT, held_against);
                let ended = world.netslot(&["verify"]);
                assert_eq!(ended.code, 0, "{more}: made with {made}, held against {held_against}: {ended:?}");
            }
            world.json(&["destroy"]);
        }
    }
}

#[test]
fn an_unbound_slot_is_silent() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    world.json(&["up"]);
    let sent = |world: &World| {
        let counters = world.in_netns(&world.slot(0), "cat", &["/proc/net/dev"]);
        counters.lines().filter(|l| l.contains("up0") || l.contains("br0")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = sent(&world);
    std::thread::sleep(Duration::from_secs(3)); // router solicitations come within one second, MLD reports within two
    assert_eq!(sent(&world), before);
}

#[test]
fn a_stopped_pass_says_what_stands_and_the_next_one_finishes() {
    let Some(world) = World::new() else { return };
    // Many, so that it is still at it when the signal comes.
    world.configure("slots = 300");
    let knobs = ["/sys/kernel/rcu_expedited", "/proc/sys/kernel/printk"];
    let before = knobs.map(|path| fs::read_to_string(path).expect("readable"));
    let mut pass = world.command(&["up"]);
    let pass = pass.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let pid = Pid::from_raw(i32::try_from(pass.id()).expect("a pid"));
    world.wait_for_slots(5);
    kill(pid, Signal::SIGINT).expect("still at it");
    let ended = Ended::of(pass.wait_with_output().expect("ended"));
    ended.is_refused(130, &["stopped by a signal", "slots are whole", "not begun", "run `netslot up` again"]);
    assert_eq!(knobs.map(|path| fs::read_to_string(path).expect("readable")), before);
    let finished = world.json(&["up"]);
    assert_eq!(finished["slots"].as_u64(), Some(300));
    assert!(world.netslot(&["up", "--dry-run"]).stdout.ends_with("nothing to do\n"));
}

#[test]
fn a_killed_pass_is_finished_and_its_knobs_are_turned_back() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 200");
    let before = fs::read_to_string("/sys/kernel/rcu_expedited").expect("readable");
    let mut pass = world.command(&["up"]).stderr(Stdio::null()).spawn().expect("started");
    world.wait_for_slots(5);
    pass.kill().expect("still at it");
    pass.wait().expect("ended");
    assert_eq!(fs::read_to_string("/sys/kernel/rcu_expedited").expect("readable"), "1\n", "killed while turned");
    assert_eq!(world.json(&["up"])["slots"].as_u64(), Some(200));
    assert_eq!(fs::read_to_string("/sys/kernel/rcu_expedited").expect("readable"), before);
    for number in [0, 4, 5, 199] {
        world.open_slot(number);
        world.in_netns(&world.slot(number), "ping", &["-c1", "-W20", HOST_IP]);
    }
}

#[test]
fn a_device_of_somebody_else_is_named_and_left_alone() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 2");
    world.ip("link add slot1 type veth peer name other");
    world.netslot(&["up"]).is_refused(7, &["device slot1", "slot 1", "not made by netslot", "rename or delete"]);
    assert_eq!(world.host_ends(), 0);
    world.ip("link del slot1");
    world.ip("link add index 100001 name taken type veth peer name other");
    world.netslot(&["up"]).is_refused(7, &["device taken (index 100001)", "ifindex_base"]);
}

#[test]
fn without_privilege_the_pass_says_what_it_needs() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    let mut nobody = Command::new("setpriv");
    nobody.args(["--bounding-set", "-all", "--inh-caps", "-all"]).arg(world.command(&[]).get_program());
    let config: Vec<_> = world.command(&["up"]).get_args().map(ToOwned::to_owned).collect();
    let ended = Ended::of(nobody.args(config).output().expect("setpriv is there"));
    ended.is_refused(5, &["Operation not permitted", "CAP_NET_ADMIN"]);
}

#[test]
fn two_passes_at_once_are_one_too_many() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 100");
    let mut first = world.command(&["up"]).stderr(Stdio::null()).spawn().expect("started");
    world.wait_for_slots(1);
    // It stands still, so that it is not at its end before the second has asked.
    let pid = Pid::from_raw(i32::try_from(first.id()).expect("a pid"));
    kill(pid, Signal::SIGSTOP).expect("still at it");
    world.netslot(&["up"]).is_refused(7, &["is held by process", &first.id().to_string()]);
    kill(pid, Signal::SIGCONT).expect("stopped");
    assert!(first.wait().expect("ended").success());
}

#[test]
fn destroy_leaves_nothing_and_can_be_said_twice() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 3");
    let (links, mounts) = (world.links(), fs::read_to_string("/proc/thread-self/mountinfo").expect("readable"));
    world.json(&["up"]);
    assert_eq!(world.json(&["destroy"])["slots"].as_u64(), Some(3));
    assert_eq!(world.links(), links);
    assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").expect("readable"), mounts);
    assert_eq!(world.json(&["destroy"])["slots"].as_u64(), Some(0));
    assert_eq!(world.json(&["up"])["created"].as_u64(), Some(3));
}

#[test]
fn destroy_ends_the_slots_though_a_change_of_root_left_another_bind_of_the_vault() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 3");
    world.json(&["up"]);
    // As systemd does it from 254 on, seen from the root that stays behind.
    fs::create_dir("/run/left").expect("a directory");
    mount(Some("/run/netslot"), "/run/left", None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .expect("bound");
    let left = Vault::open(Path::new("/run/left")).expect("readable").expect("the same vault");
    assert_eq!(left.slots().expect("listed").len(), 3);
    world.json(&["destroy"]);
    assert_eq!(left.slots().expect("listed"), [], "what nobody reaches holds no namespace");
    assert_eq!(world.json(&["up"])["created"].as_u64(), Some(3));
    world.json(&["destroy"]);
}

#[test]
fn the_hosts_mount_table_does_not_grow_with_the_slots() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 20");
    let mounts = || fs::read_to_string("/proc/thread-self/mountinfo").expect("readable").lines().count();
    let before = mounts();
    world.json(&["up"]);
    assert_eq!(mounts() - before, 2, "the run directory's own and the vault's");
    assert!(fs::metadata(RUN_DIR).is_ok());
}

#[test]
fn a_pool_made_in_a_chroot_is_there_for_the_next_process_and_nothing_of_it_is_outside() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 2");
    let bind = |from: &Path, to: &Path| {
        fs::create_dir_all(to).expect("made");
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).expect("bound");
    };
    let folder = Path::new("/run/jail");
    for dir in ["bin", "lib", "lib64", "usr", "proc", "sys", "dev"] {
        bind(&Path::new("/").join(dir), &folder.join(dir));
    }
    fs::create_dir(folder.join("run")).expect("made");
    fs::copy(common::binary(), folder.join("netslot")).expect("copied");
    fs::copy(world.config_path(), folder.join("netslot.toml")).expect("copied");
    let mounted = Path::new("/run/mounted");
    bind(folder, mounted);
    for jail in [folder, mounted] {
        let run = |word: &str| {
            let words = ["/netslot", "--config", "/netslot.toml", "--json", word];
            let ended = Ended::of(Command::new("chroot").arg(jail).args(words).output().expect("chroot is there"));
            assert_eq!(ended.code, 0, "{ended:?}");
            ended.stdout
        };
        let told = |word: &str| serde_json::from_str::<serde_json::Value>(&run(word)).expect("JSON");
        let outside =
            || fs::read_dir("/").expect("listed").flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
        let before = outside();
        assert_eq!(told("up")["created"], 2, "{jail:?}");
        let again = told("up");
        assert_eq!((&again["created"], &again["adopted"]), (&0.into(), &2.into()), "{jail:?}: {again}");
        assert_eq!(outside(), before);
        run("destroy");
        assert_eq!(world.host_ends(), 0);
    }
}
