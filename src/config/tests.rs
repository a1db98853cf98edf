//! What is refused, where and with which hint; what is taken; and the annotated example against the code.

use std::path::PathBuf;

use proptest::prelude::*;

use super::load::{LoadError, load};
use super::parse::{Loaded, Overrides, Source, parse};
use super::refusal::{Origin, Refusal};
use super::{Config, Empty, Outer, Tunnel, keys, print};

const EXAMPLE: &str = include_str!("../../systemd/netslot.toml");

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

fn read(text: &str) -> Result<Loaded, Vec<Refusal>> {
    parse(&[source("f", text)], &Overrides::default())
}

fn taken(text: &str) -> Loaded {
    read(text).unwrap_or_else(|refusals| panic!("{text}\nrefused: {refusals:#?}"))
}

/// Asserts that the text is refused for one thing alone, at that line and key, and that the message holds the hint.
fn refused(text: &str, line: usize, key: &str, hint: &str) {
    let refusals = read(text).expect_err(text);
    let told: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(refusals.len(), 1, "{text}\n{told:#?}");
    assert_eq!(refusals[0].origin, Origin::File("f".into(), line), "{told:?}");
    assert_eq!(refusals[0].key.as_deref(), Some(key), "{told:?}");
    assert!(told[0].starts_with(&format!("f:{line}: {key}: ")), "{told:?}");
    assert!(told[0].contains(hint), "{told:?} does not say {hint:?}");
}

#[test]
fn unknown_names_are_refused_with_the_one_that_was_meant() {
    refused("\nslos = 1", 2, "slos", "did you mean 'slots'?");
    refused("slot = '/etc/slot.nft'", 1, "slot", "did you mean 'rules.slot', under [rules]?");
    refused("mac = 'x'", 1, "mac", "did you mean 'guest.mac', under [guest]?");
    refused("[guest]\nthreads = 1", 2, "guest.threads", "did you mean 'threads', before the first section?");
    refused("[guest]\nreserve = 1", 2, "guest.reserve", "did you mean 'quotas.reserve', under [quotas]?");
    refused("[guest]\ngatway_ip = ''", 2, "guest.gatway_ip", "did you mean 'guest.gateway_ip'?");
    refused("colour = 1", 1, "colour", "unknown key ('netslot config' prints all keys)");
    refused(
        "[guests]\nmac = 1",
        1,
        "guests",
        "unknown section: did you mean 'guest'? (the sections are guest, rules, quotas)",
    );
    refused("guest = 4", 1, "guest", "a section of its own is due: [guest]");
    refused("\"a\\nb\" = 4", 1, "a\\nb", "unknown key");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    for (text, line, hint) in [
        ("slots = 1\nslots = 2", 2, "duplicate key"),
        ("slots = 1\n\nthreads =", 3, "no TOML"),
        ("slots = 1\n[guest\nmac = 1", 2, "no TOML"),
        ("tunnel = ebpf", 1, "string values must be quoted"),
    ] {
        let refusals = read(text).expect_err(text);
        assert_eq!((&refusals[0].origin, &refusals[0].key), (&Origin::File("f".into(), line), &None), "{text}");
        assert!(refusals[0].to_string().contains(hint), "{refusals:?}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_told_what_is_due() {
    refused("slots = '8'", 1, "slots", "a string where a whole number from 1 to 65536 is due");
    refused("slots = 8.0", 1, "slots", "a number with a point where a whole number");
    refused("slots = true", 1, "slots", "true or false where a whole number");
    refused("slots = 2026-11-21", 1, "slots", "a date where a whole number");
    refused("[slots]", 1, "slots", "a section where a whole number");
    refused("mtu = [1]", 1, "mtu", "a list where a whole number from 576 to 65521 is due (or \"auto\")");
    refused("tunnel = 1", 1, "tunnel", "a number where one of ebpf, geneve, off is due");
    refused("run_dir = 1", 1, "run_dir", "a number where a path that starts with '/' is due");
    refused("slot_cidr = 1", 1, "slot_cidr", "as in \"100.64.0.0/15\"");
    refused("slot_cidr6 = 1", 1, "slot_cidr6", "as in \"fd00:6e73::/96\", is due (or \"none\")");
    refused("guest.mac = 1", 1, "guest.mac", "as in \"06:00:ac:10:00:02\"");
    refused("guest.ip = 1", 1, "guest.ip", "as in \"172.16.0.2/30\"");
    refused("guest.ip6 = 1", 1, "guest.ip6", "as in \"fd00:6e73:1::2/64\"");
    refused("guest.gateway_ip = 1", 1, "guest.gateway_ip", "as in \"172.16.0.1\"");
    refused("guest.tap = 1", 1, "guest.tap", "as in \"tap0\"");
    refused("guest.owner = 'firecracker'", 1, "guest.owner", "as 'id -u NAME' or 'id -g NAME' prints it");
    refused("quotas.reserve_uids = 0", 1, "quotas.reserve_uids", "as in [0, 1000]");
    refused("quotas.reserve_uids = ['root']", 1, "quotas.reserve_uids", "a user or group id");
}

#[test]
fn a_number_out_of_range_is_told_the_range() {
    refused("slots = 0", 1, "slots", "0 is out of range: a whole number from 1 to 65536 is due");
    refused("slots = 65537", 1, "slots", "1 to 65536");
    refused("slots = -1", 1, "slots", "-1 is out of range");
    refused("slots = 0xffffffffffffffff", 1, "slots", "0xffffffffffffffff is out of range");
    refused(&format!("slots = {}", "9".repeat(60)), 1, "slots", "is out of range");
    refused("threads = 0", 1, "threads", "1 to 4");
    refused("threads = 5", 1, "threads", "1 to 4");
    refused("ifindex_base = 999", 1, "ifindex_base", "1000 to 2147483647");
    refused("vni_base = 16777216", 1, "vni_base", "0 to 16777215");
    refused("mtu = 575", 1, "mtu", "576 to 65521 is due (or \"auto\")");
    refused("mtu = 65522", 1, "mtu", "576 to 65521");
    refused("guest.owner = 4294967295", 1, "guest.owner", "out of range");
    refused("quotas.leases_per_uid = 0", 1, "quotas.leases_per_uid", "1 to 65536");
    refused("quotas.connections = 0", 1, "quotas.connections", "1 to 65536");
    refused("quotas.connections_per_uid = 0", 1, "quotas.connections_per_uid", "1 to 65536");
    refused("quotas.reply_bytes_per_connection = 4095", 1, "quotas.reply_bytes_per_connection", "4096 to");
    refused("quotas.waiters_per_uid = 4097", 1, "quotas.waiters_per_uid", "0 to 4096");
    refused("quotas.wait_ms_max = 3600001", 1, "quotas.wait_ms_max", "0 to 3600000");
    let many = format!("quotas.reserve_uids = [{}]", "1,".repeat(1_025));
    refused(&many, 1, "quotas.reserve_uids", "1025 entries, and 1024 are the most");
}

#[test]
fn numbers_that_reach_too_far_are_told_the_largest_base() {
    let text = "slots = 5000\nifindex_base = 2147483000";
    refused(text, 2, "ifindex_base", "slots_max = 5000 (default) reach past the kernel's largest index, 2147483647");
    refused(text, 2, "ifindex_base", "2147478648 is the largest base");
    assert_eq!(taken("slots = 5000\nifindex_base = 2147478648").config.ifindex_base, 2_147_478_648);
    let text = "slots = 5000\nvni_base = 16777000";
    refused(text, 2, "vni_base", "reach past 24 bits, 16777215: 16772216 is the largest base");
    assert_eq!(taken("slots = 5000\nvni_base = 16772216").config.vni_base, 16_772_216);
}

#[test]
fn slots_max_follows_slots_and_is_not_less() {
    assert_eq!(taken("slots = 4000").config.slots_max, 4_000);
    assert_eq!(taken("slots = 4000\nslots_max = 5000").config.slots_max, 5_000);
    refused("slots = 40\nslots_max = 39", 2, "slots_max", "slots_max = 39 (f:2) is less than slots = 40 (f:1)");
    let over = Overrides { slots: Some(50), ..Overrides::default() };
    assert_eq!(parse(&[source("f", "slots = 4")], &over).map(|l| (l.config.slots, l.config.slots_max)), Ok((50, 50)));
    let refusals = parse(&[source("f", "slots_max = 40")], &over).expect_err("more than 40");
    assert_eq!(
        refusals[0].to_string(),
        "f:1: slots_max: slots_max = 40 (f:1) is less than slots = 50 (--slots): slots_max is at least slots, and left \
         out it is the same"
    );
}

#[test]
fn a_slot_range_is_a_whole_one_of_usable_addresses() {
    refused("slot_cidr = '100.64.0.0'", 1, "slot_cidr", "is no address with a prefix length, as in 172.16.0.2/30");
    refused("slot_cidr = '100.64.0.0/33'", 1, "slot_cidr", "is no address with a prefix length");
    refused("slot_cidr = '100.64.1.0/15'", 1, "slot_cidr", "100.64.0.0/15 is the range that it lies in");
    for (range, what) in [
        ("127.0.0.0/16", "127.0.0.0/8, loopback"),
        ("224.0.0.0/16", "224.0.0.0/4, multicast"),
        ("240.0.0.0/16", "240.0.0.0/4, reserved"),
        ("169.254.0.0/16", "169.254.0.0/16, link-local"),
        ("0.0.0.0/0", "0.0.0.0/8"),
        ("126.0.0.0/7", "127.0.0.0/8, loopback"),
    ] {
        refused(&format!("slot_cidr = '{range}'"), 1, "slot_cidr", what);
        refused(&format!("slot_cidr = '{range}'"), 1, "slot_cidr", "such as 100.64.0.0/15");
    }
    refused("slot_cidr6 = 'fd00::1/96'", 1, "slot_cidr6", "fd00::/96 is the range that it lies in");
    for (range, what) in [("fe80::/64", "link-local"), ("ff00::/64", "multicast"), ("::/96", "loopback")] {
        refused(&format!("slot_cidr6 = '{range}'"), 1, "slot_cidr6", what);
    }
}

#[test]
fn a_slot_range_too_small_is_told_the_one_that_would_do() {
    refused(
        "slot_cidr = '10.0.3.0/24'",
        1,
        "slot_cidr",
        "10.0.3.0/24 numbers 253 slots, too few for slots_max = 1000 (default): 10.0.0.0/22 would do",
    );
    refused("slots = 4\nslots_max = 254\nslot_cidr = '10.0.3.0/24'", 3, "slot_cidr", "10.0.2.0/23 would do");
    refused("slots = 60000\nslot_cidr = '10.0.0.0/17'", 2, "slot_cidr", "10.0.0.0/16 would do");
    assert_eq!(taken("slots = 253\nslot_cidr = '10.0.3.0/24'").config.slots_max, 253);
    let ipv6 = "[guest]\nip6 = 'fd01::2/64'\ngateway_ip6 = 'fd01::1'";
    refused(&format!("slot_cidr6 = 'fd00::ff00/120'\n{ipv6}"), 1, "slot_cidr6", "fd00::fc00/118 would do");
}

#[test]
fn the_guest_and_its_gateway_are_two_hosts_of_one_network() {
    refused("guest.ip = '172.16.0.2/31'", 1, "guest.ip", "a prefix of 8 to 30 is due");
    refused("guest.ip = '172.16.0.0/30'", 1, "guest.ip", "the network's own, the first address of 172.16.0.0/30");
    refused("guest.ip = '172.16.0.3/30'", 1, "guest.ip", "broadcast, the last address of 172.16.0.0/30");
    refused("guest.ip = '127.0.0.2/30'", 1, "guest.ip", "loopback");
    refused("guest.ip = '10.1.1.2/24'", 1, "guest.ip", "172.16.0.1 is outside the guest's network 10.1.1.0/24");
    refused("guest.gateway_ip = '10.0.0.x'", 1, "guest.gateway_ip", "'10.0.0.x' is no IPv4 address");
    refused("guest.gateway_ip = '172.16.0.5'", 1, "guest.gateway_ip", "outside the guest's network 172.16.0.0/30");
    refused("guest.gateway_ip = '172.16.0.2'", 1, "guest.gateway_ip", "both the guest's address and the gateway's");
    refused("guest.gateway_ip = '172.16.0.3'", 1, "guest.gateway_ip", "broadcast");
    refused("guest.gateway_ip = '172.16.0.0'", 1, "guest.gateway_ip", "the network's own");
    let link_local = taken("guest.ip = '169.254.0.21/30'\nguest.gateway_ip = '169.254.0.22'");
    assert_eq!(link_local.config.guest.ip.to_string(), "169.254.0.21/30");
}

#[test]
fn the_guest_and_the_slots_share_no_address() {
    refused("guest.ip = '100.65.0.2/30'\nguest.gateway_ip = '100.65.0.1'", 1, "guest.ip", "100.64.0.0/15\" (default)");
    let text = "guest.ip = '10.0.0.2/8'\nguest.gateway_ip = '10.0.0.1'\nslot_cidr = '10.64.0.0/16'";
    refused(text, 3, "slot_cidr", "overlaps the guest's network 10.0.0.0/8");
    let text = "slot_cidr6 = 'fd00::/64'\nguest.ip6 = 'fd00::2/96'\nguest.gateway_ip6 = 'fd00::1'";
    refused(text, 1, "slot_cidr6", "overlaps the guest's network fd00::/96");
}

#[test]
fn ipv6_takes_three_keys_together() {
    let all = "slot_cidr6 = 'fd00:1::/96'\nguest.ip6 = 'fd00::2/64'\nguest.gateway_ip6 = 'fd00::1'\n";
    let config = taken(all).config;
    assert_eq!(config.guest.gateway_ip6, "fd00::1".parse().ok());
    for (line, key) in [(1, "slot_cidr6"), (2, "guest.ip6"), (3, "guest.gateway_ip6")] {
        let alone = "\n".repeat(line - 1) + all.lines().nth(line - 1).unwrap_or_default();
        refused(&alone, line, key, "all three or none of guest.ip6, guest.gateway_ip6, slot_cidr6");
    }
    refused(&all.replace("'fd00::1'", "'fd01::1'"), 3, "guest.gateway_ip6", "outside the guest's network fd00::/64");
    refused(&all.replace("'fd00::1'", "'fd00::2'"), 3, "guest.gateway_ip6", "both the guest's address");
    refused(&all.replace("'fd00::1'", "'fd00::'"), 3, "guest.gateway_ip6", "the routers' anycast");
    refused(&all.replace("fd00::2/64", "fd00::/64"), 2, "guest.ip6", "the routers' anycast");
    refused(&all.replace("fd00::2/64", "fd00::2/127"), 2, "guest.ip6", "a prefix of 16 to 126 is due");
    refused(&all.replace("fd00::2/64", "fe80::2/64"), 2, "guest.ip6", "link-local");
    refused(&all.replace("'fd00::1'", "'fd00::g'"), 3, "guest.gateway_ip6", "is no IPv6 address");
    refused(&format!("mtu = 1279\n{all}"), 1, "mtu", "1279 carries no IPv6");
    refused(&format!("mtu = 1279\n{all}"), 1, "mtu", "at least 1280");
}

#[test]
fn macs_are_unicast_different_and_not_the_slots_own() {
    refused("guest.mac = '6:0:ac:10:0:2'", 1, "guest.mac", "as in 06:00:ac:10:00:02");
    refused("guest.mac = '01:00:5e:00:00:01'", 1, "guest.mac", "multicast");
    refused("guest.mac = '00:00:00:00:00:00'", 1, "guest.mac", "zero");
    refused("guest.mac = '06:4e:53:00:00:01'", 1, "guest.mac", "a slot's own");
    refused("guest.gateway_mac = '02:4e:53:00:00:01'", 1, "guest.gateway_mac", "a slot's own");
    refused(
        "guest.gateway_mac = '06:00:ac:10:00:02'",
        1,
        "guest.gateway_mac",
        "both the guest's MAC and the gateway's",
    );
}

#[test]
fn device_names_are_the_kernels_and_nobody_elses() {
    refused("guest.tap = 'tap0123456789012'", 1, "guest.tap", "16 bytes long; the kernel takes at most 15");
    refused("guest.tap = 'tap/0'", 1, "guest.tap", "is no device name");
    refused("guest.tap = ''", 1, "guest.tap", "at least one character");
    for prefix in ["ve-", "vb-", "vz-", "vt-"] {
        refused(&format!("guest.tap = '{prefix}0'"), 1, "guest.tap", &format!("starts with '{prefix}': systemd's"));
    }
    for taken in ["lo", "br0", "up0", "gnv0"] {
        refused(&format!("guest.tap = '{taken}'"), 1, "guest.tap", "every slot has a device of that name");
    }
    refused("uplink = 'slot7'", 1, "uplink", "the name of a slot's host end");
    refused("uplink = 'lo'", 1, "uplink", "'lo' reaches no network");
    refused("uplink = 'eth 0'", 1, "uplink", "is no device name");
    assert_eq!(taken("uplink = 'auto'").config.uplink, None);
}

#[test]
fn words_are_told_the_nearest() {
    refused("tunnel = 'genev'", 1, "tunnel", "none of ebpf, geneve, off: did you mean 'geneve'?");
    refused("empty = 'creat'", 1, "empty", "none of fail, wait, create: did you mean 'create'?");
    refused("empty = 'x'", 1, "empty", "none of fail, wait, create");
    assert_eq!(taken("tunnel = 'geneve'").config.tunnel, Tunnel::Geneve);
}

#[test]
fn paths_are_absolute_plain_short_and_different() {
    refused("run_dir = 'run/netslot'", 1, "run_dir", "'run/netslot' is not absolute");
    refused("bpf_dir = '/sys/../bpf'", 1, "bpf_dir", "no '..'");
    refused("netns_dir = '/'", 1, "netns_dir", "more than '/' alone");
    refused(&format!("run_dir = '/{}'", "x".repeat(255)), 1, "run_dir", "256 bytes long, and 255 are the most");
    refused(&format!("socket = '/{}'", "x".repeat(107)), 1, "socket", "108 bytes long, and 107 are the most");
    assert!(taken(&format!("socket = '/{}'", "x".repeat(106))).config.socket.is_absolute());
    refused("bpf_dir = '/run/netslot//'", 1, "bpf_dir", "are one path");
    let over = Overrides { socket: Some("relative".into()), ..Overrides::default() };
    let refusals = parse(&[], &over).expect_err("not absolute");
    assert!(refusals[0].to_string().starts_with("--socket: socket: 'relative' is not absolute"), "{refusals:?}");
}

#[test]
fn a_pool_that_cannot_be_is_refused() {
    refused("slots = 9\nready_after = 10", 2, "ready_after", "10 slots will never be there: slots = 9 (f:1)");
    refused("empty = 'create'", 1, "empty", "\"create\" has nothing to create: slots_max = 1000 (default)");
    assert_eq!(taken("empty = 'create'\nslots_max = 1001").config.empty, Empty::Create);
    refused("mtu = 65500", 1, "mtu", "leaves no room for tunnel = \"ebpf\" (default): at most 65465");
    assert_eq!(taken("mtu = 65521\ntunnel = 'off'").config.mtu, Some(65_521));
}

#[test]
fn quotas_that_shut_everybody_out_are_refused() {
    refused("quotas.waiters_per_uid = 0", 1, "quotas.waiters_per_uid", "for that, empty = \"fail\"");
    refused("quotas.wait_ms_max = 0", 1, "quotas.wait_ms_max", "for that, empty = \"fail\"");
    assert_eq!(taken("empty = 'fail'\nquotas.wait_ms_max = 0").config.quotas.wait_ms_max, 0);
    refused("quotas.reserve = 5", 1, "quotas.reserve", "name the users in reserve_uids");
    let text = "slots = 5\nquotas.reserve = 5\nquotas.reserve_uids = [0]";
    refused(text, 2, "quotas.reserve", "5 slots kept back of slots = 5 (f:1): nobody else");
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_files_and_lines() {
    let sources = [source("b", "threads = 9\nslots = 0"), source("a", "\nmtu = 1\n[guest]\nmac = 'x'")];
    let refusals = parse(&sources, &Overrides::default()).expect_err("four");
    let told: Vec<String> =
        refusals.iter().map(|r| r.to_string().split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(told, ["b:1 threads", "b:2 slots", "a:2 mtu", "a:4 guest.mac"]);
    let together = LoadError::Refused(refusals).to_string();
    assert!(together.starts_with("4 things are wrong with the configuration\nb:1: threads: "), "{together}");
}

#[test]
fn a_later_file_overrides_keys_of_an_earlier_and_each_key_knows_its_file() {
    let sources = [source("a", "slots = 4\nthreads = 1\n[guest]\ntap = 'x'"), source("b", "\nslots = 5\nuplink = 'e'")];
    let loaded = parse(&sources, &Overrides::default()).expect("valid");
    assert_eq!((loaded.config.slots, loaded.config.threads, loaded.config.guest.tap.as_str()), (5, 1, "x"));
    let origin = |key| loaded.origins.of(key).to_string();
    assert_eq!(["slots", "threads", "guest.tap", "uplink", "mtu"].map(origin), ["b:2", "a:2", "a:4", "b:3", "default"]);
}

#[test]
fn files_are_read_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("netslot.toml");
    let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).expect("written");
    let loaded = || load(Some(&file), &Overrides::default());
    assert!(matches!(loaded(), Err(LoadError::Read(path, _)) if path == file), "a named file must be there");

    write("netslot.toml", b"slots = 4\nthreads = 1");
    assert_eq!(loaded().expect("valid").config.slots, 4);
    std::fs::create_dir(dir.path().join("netslot.toml.d")).expect("made");
    write("netslot.toml.d/20.toml", b"slots = 6");
    write("netslot.toml.d/10.toml", b"slots = 5\nmtu = 1400");
    for ignored in ["30.toml~", ".40.toml", "README"] {
        write(&format!("netslot.toml.d/{ignored}"), b"slots = 'no'");
    }
    let config = loaded().expect("valid").config;
    assert_eq!((config.slots, config.mtu, config.threads), (6, Some(1_400), 1));

    write("netslot.toml.d/20.toml", b"slots = 7\n\xff");
    let error = loaded().expect_err("no UTF-8").to_string();
    assert!(error.contains("20.toml:2: no UTF-8 from here on"), "{error}");
    write("netslot.toml.d/20.toml", &vec![b'#'; 1 << 20]);
    assert!(loaded().is_ok());
    write("netslot.toml.d/20.toml", &vec![b'#'; (1 << 20) + 1]);
    assert!(matches!(loaded(), Err(LoadError::TooLarge(_))));
}

#[test]
fn no_file_at_all_gives_the_defaults() {
    let loaded = parse(&[], &Overrides::default()).expect("valid");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(taken("").config, Config::default());
}

/// The example with each `#key = value` made a statement.
fn uncommented() -> String {
    let is_key = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let line = |line: &str| line.strip_prefix('#').filter(|l| is_key(l)).unwrap_or(line).to_owned() + "\n";
    EXAMPLE.lines().map(line).collect()
}

#[test]
fn the_annotated_example_mentions_every_key_with_its_default() {
    assert_eq!(taken(EXAMPLE).config, Config::default());
    assert_eq!(taken(EXAMPLE).origins.keys().count(), 0, "a fresh example sets nothing");
    let loaded = taken(&uncommented());
    assert_eq!(loaded.config, Config::default());
    let missing: Vec<_> =
        keys::KEYS.iter().map(|k| k.name).filter(|k| loaded.origins.of(k) == &Origin::Default).collect();
    assert!(missing.is_empty(), "the example does not mention {missing:?}");
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let changed = "
        slots = 8\nslots_max = 9\nslot_cidr = '10.9.0.0/16'\nslot_cidr6 = 'fd00:1::/96'\nuplink = 'eth0.5'\nmtu = 1400
        tunnel = 'geneve'\nempty = 'create'\nready_after = 3\nthreads = 4\nifindex_base = 0x8000\nvni_base = 7
        run_dir = '/tmp/a \"b\" ü'\nsocket = '/tmp/s'
        [guest]\nmac = '06:00:00:00:00:0a'\nip6 = 'fd00::2/64'\ngateway_ip6 = 'fd00::1'\nowner = 100\ngroup = 0
        [quotas]\nreserve = 2\nreserve_uids = [0, 7]";
    for loaded in [taken(""), taken(changed)] {
        let text = print::toml(&loaded);
        assert_eq!(taken(&text).config, loaded.config, "{text}");
        let json = print::json(&loaded);
        assert_eq!(json["slots"], loaded.config.slots);
        assert_eq!(json["guest"]["tap"], "tap0");
        assert_eq!(json["origins"].as_object().map(serde_json::Map::len), Some(keys::KEYS.len()));
    }
    assert!(print::toml(&taken("\nslots = 8")).starts_with("slots = 8                                # f:2\n"));
}

#[test]
fn every_default_is_within_its_own_bounds() {
    for key in &keys::KEYS {
        let said = (key.show)(&Config::default());
        let text = match key.name.split_once('.') {
            Some((section, name)) => format!("[{section}]\n{name} = {said}"),
            None => format!("{} = {said}", key.name),
        };
        assert_eq!(taken(&text).config, Config::default(), "{text}");
    }
}

#[test]
fn the_overhead_is_what_the_headers_add_up_to() {
    for tunnel in [Tunnel::Ebpf, Tunnel::Geneve] {
        assert_eq!((tunnel.overhead(Outer::V4), tunnel.overhead(Outer::V6)), (50, 70));
    }
    assert_eq!((Tunnel::Off.overhead(Outer::V4), Tunnel::Off.overhead(Outer::V6)), (0, 0));
}

fn any_key() -> impl Strategy<Value = String> {
    let known = prop::sample::select(keys::KEYS.iter().map(|k| k.name.to_owned()).collect::<Vec<_>>());
    prop_oneof![8 => known, 1 => "[a-z_.]{1,12}", 1 => "\\PC{1,8}".prop_map(|k| format!("{k:?}"))]
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (0_u32..70_000).prop_map(|n| n.to_string()),
        any::<[u8; 4]>()
            .prop_flat_map(|a| (0_u8..34).prop_map(move |p| format!("'{}.{}.{}.{}/{p}'", a[0], a[1], a[2], a[3]))),
        any::<u128>()
            .prop_flat_map(|a| (0_u8..130).prop_map(move |p| format!("'{}/{p}'", std::net::Ipv6Addr::from(a)))),
        prop::sample::select(vec![
            "'auto'", "'none'", "'all'", "'off'", "'create'", "'/x'", "[0]", "{}", "1.5", "true"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,16}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn whatever_keys_say_a_refusal_names_its_line_and_what_is_taken_prints_and_reads_back(
        lines in prop::collection::vec((any_key(), any_value()), 0..6)
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        match read(&text) {
            Ok(loaded) => prop_assert_eq!(taken(&print::toml(&loaded)).config, loaded.config),
            Err(refusals) => for refusal in refusals {
                let Origin::File(path, line) = refusal.origin else { panic!("{refusal:?} is nowhere") };
                prop_assert_eq!(path, PathBuf::from("f"));
                prop_assert!((1..=text.lines().count() + 1).contains(&line));
            },
        }
    }
}
