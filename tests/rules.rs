//! Rules against the real kernel: what nft and iptables make of a text, and what slots get of it, are the same.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::daemon::eventually;
use common::{Ended, NETWORK_IP, World};

/// Rulesets of which a kernel may lack what they need; each is small, so that little goes untested with it.
const OPTIONAL: [&str; 7] =
    ["bridge_meta.nft", "flowtable.nft", "ipsec.nft", "queue.nft", "socket.nft", "tproxy.nft", "zones.nft"];

fn corpus() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules/corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).expect("there").map(|e| e.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() >= 15, "{files:?}");
    files
}

/// Whether the kernel has not what a ruleset needs, by nft's words for it.
fn is_lacking(ended: &Ended) -> bool {
    ended.code == 3
        && ended.stderr.contains("nft refuses")
        && ["Operation not supported", "No such file or directory"].iter().any(|words| ended.stderr.contains(words))
}

#[test]
fn what_is_replayed_is_listed_as_what_was_written() {
    let Some(world) = World::new() else { return };
    for file in corpus() {
        let name = file.file_name().and_then(|n| n.to_str()).expect("a name");
        let path = file.to_str().expect("text");
        let compile = || world.netslot(&["--json", "compile-rules", "--check", path, "-o", "/run/image"]);
        let ended = compile();
        if OPTIONAL.contains(&name) && is_lacking(&ended) {
            eprintln!("SKIPPED: {name}: this kernel lacks what it needs");
            continue;
        }
        assert_eq!(ended.code, 0, "{name}: {ended:?}");
        let first = fs::read("/run/image").expect("written");
        assert_eq!(compile().code, 0, "{name}");
        assert!(first == fs::read("/run/image").expect("written"), "{name}: compiled again, it is another image");
    }
}

#[test]
fn what_cannot_be_brought_into_slots_is_refused_by_file_and_line() {
    let Some(world) = World::new() else { return };
    let ruleset = |rule: &str| {
        format!("table inet t {{\n\tchain c {{\n\t\ttype filter hook input priority 0;\n\t\t{rule}\n\t}}\n}}\n")
    };
    for (text, words) in [
        (ruleset("tcp dport { 22, accept"), &["nft refuses /run/rules", "rules:4:19-24", "syntax error"][..]),
        (ruleset("tcp dport 22 acept"), &["rules:4:21-21", "syntax error"]),
        (ruleset("iif \"eth7\" drop"), &["rules:4:7-12", "Interface does not exist", "the devices in a slot are lo"]),
        (
            ruleset("iif \"tap0\" drop"),
            &["/run/rules:4: rule of chain inet t c, number 1", "another in every slot", "iifname"],
        ),
        (ruleset("ip saddr @nowhere drop"), &["rules:4:", "No such file or directory"]),
        (
            "table netdev t {\n\tchain c {\n\t\ttype filter hook ingress device \"eth7\" priority 0;\n\t}\n}\n".into(),
            &["/run/rules:", "eth7", "the devices in a slot are lo, br0, up0"],
        ),
        ("table inet t {\n\tflags owner\n}\n".into(), &["/run/rules:2: a table with the flag 'owner'"]),
        (
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --nonsense\nCOMMIT\n".into(),
            &["iptables-nft-restore", "line: 3"],
        ),
        (
            "*filter\n:INPUT ACCEPT [0:0]\n-A NOWHERE -j DROP\nCOMMIT\n".into(),
            &["iptables-nft-restore refuses /run/rules", "3"],
        ),
    ] {
        fs::write("/run/rules", &text).expect("written");
        world.netslot(&["compile-rules", "/run/rules", "-o", "/run/image"]).is_refused(3, words);
        assert!(!Path::new("/run/image").exists(), "{text}");
    }
    fs::write("/run/rules", [b"table\n".as_slice(), &[0xff, 0xfe]].concat()).expect("written");
    let refused = world.netslot(&["compile-rules", "/run/rules", "-o", "/run/image"]);
    refused.is_refused(3, &["/run/rules:2: no UTF-8 from here on"]);
    let refused = world.netslot(&["compile-rules", "/run/nothing", "-o", "/run/image"]);
    refused.is_refused(3, &["read /run/nothing: No such file or directory"]);
}

#[test]
fn without_nft_a_text_is_refused_and_the_package_named() {
    let Some(world) = World::new() else { return };
    // Nothing on the paths that are searched: the world's mounts are its own.
    for dir in ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"] {
        let empty = Some("empty");
        let none = None::<&str>;
        nix::mount::mount(empty, dir, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("covered");
    }
    fs::write("/run/rules", "table inet t {}\n").expect("written");
    let refused = world.netslot(&["compile-rules", "/run/rules", "-o", "/run/image"]);
    refused.is_refused(4, &["nft is not installed, and /run/rules is text", "install nftables"]);
}

#[test]
fn whatever_is_changed_in_a_slots_rules_is_told_and_set_back() {
    use netslot::netlink::{Protocol, Socket};
    use netslot::rules::{Image, Replay};
    let Some(world) = World::new() else { return };
    with_rules(&world, 1, FIRST);
    world.json(&["up"]);
    let image = Image::from_bytes(&fs::read("/run/netslot/rules-slot.image").expect("kept")).expect("an image");
    let replay = Replay::new(&image).expect("small");
    let slot = world.slot(0);
    let in_slot = |work: &(dyn Fn(&mut Socket) -> Option<String> + Sync)| {
        let work = || work(&mut Socket::open_to(Protocol::Netfilter).expect("a socket"));
        netslot::sys::netns::within(&slot, work).expect("entered")
    };
    let difference = || in_slot(&|socket| replay.difference(socket).expect("dumped"));
    assert_eq!(difference(), None);
    for (change, told) in [
        (
            "add rule inet mine input tcp dport 1 drop",
            "rule of chain inet mine input, number 2 (cmp, immediate, meta, payload)",
        ),
        ("add element inet mine ports { 11 }", "elements of set inet mine ports"),
        ("add chain inet mine more", "chain inet mine more"),
        ("add table ip more", "table ip more"),
        (
            "flush chain inet mine input",
            "rule of chain inet mine input, number 1 (cmp, immediate, lookup, meta, payload) is missing",
        ),
    ] {
        world.in_netns(&slot, "nft", &[change]);
        assert_eq!(difference().as_deref(), Some(told), "{change}");
        world.in_netns(&slot, "nft", &["flush", "ruleset"]);
        in_slot(&|socket| replay.replace(socket).err().map(|e| e.to_string()));
        assert_eq!(difference(), None, "{change}");
    }
}

/// What a test's slots get, and how it is told apart from the next.
const FIRST: &str = "table inet mine {\n\tset ports {\n\t\ttype inet_service\n\t\telements = { 7, 9 }\n\t}\n\n\tchain input {\n\
     \t\ttype filter hook input priority filter; policy accept;\n\t\ttcp dport @ports drop\n\t}\n}\n";
const SECOND: &str = "table inet mine {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\
     \t\tudp dport 9 drop\n\t}\n}\ntable ip further {\n}\n";

fn listing(world: &World, slot: u32) -> String {
    world.in_netns(&world.slot(slot), "nft", &["-s", "list", "ruleset"])
}

fn with_rules(world: &World, slots: u32, text: &str) {
    fs::write("/run/slot.nft", text).expect("written");
    world.configure(&format!("slots = {slots}\n[rules]\nslot = '/run/slot.nft'"));
}

#[test]
fn every_slot_has_the_rules_and_gets_them_again() {
    let Some(world) = World::new() else { return };
    with_rules(&world, 4, FIRST);
    assert_eq!(world.json(&["up"])["created"].as_u64(), Some(4));
    for slot in 0..4 {
        assert_eq!(listing(&world, slot), FIRST);
    }
    assert_eq!(world.netslot(&["up", "--dry-run"]).stdout, "adopt   4 slots as they are\nnothing to do\n");
    world.in_netns(&world.slot(1), "nft", &["flush", "ruleset"]);
    world.in_netns(&world.slot(2), "ip", &["link", "del", "tap0"]);
    world.in_netns(&world.slot(3), "nft", &["add", "table", "ip", "foreign"]);
    let plan = world.netslot(&["up", "--dry-run"]).stdout;
    for line in [
        "repair  slot 1: rules\n",
        "repair  slot 2: tap, tap on bridge, rules, program on tap, tap up",
        "adopt   2 slots",
    ] {
        assert!(plan.contains(line), "'{line}' is not in:\n{plan}");
    }
    assert_eq!(world.json(&["up"])["repaired"].as_u64(), Some(2));
    for slot in 0..3 {
        assert_eq!(listing(&world, slot), FIRST);
    }
    // Other rules in the file: free slots get them by the next pass.
    with_rules(&world, 4, SECOND);
    assert_eq!(world.json(&["up"])["repaired"].as_u64(), Some(4));
    assert_eq!(listing(&world, 0), SECOND);
    assert!(listing(&world, 3).starts_with("table ip foreign {\n}\n"), "{}", listing(&world, 3));
    let shown = world.json(&["show", "0", "--rules"]);
    assert_eq!(shown["listing"].as_str(), Some(SECOND));
    assert_eq!(shown["tables"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_image_needs_no_nft() {
    let Some(world) = World::new() else { return };
    fs::write("/run/slot.nft", FIRST).expect("written");
    assert_eq!(world.netslot(&["compile-rules", "/run/slot.nft", "-o", "/run/slot.rules"]).code, 0);
    world.configure("slots = 2\n[rules]\nslot = '/run/slot.rules'");
    let up = world.command(&["up"]).env("PATH", "/nonexistent").output().expect("started");
    assert_eq!(Ended::of(up).code, 0);
    assert_eq!(listing(&world, 1), FIRST);
}

#[test]
fn new_rules_come_into_all_slots_of_a_pool_in_use_but_where_they_are_refused() {
    let Some(world) = World::new() else { return };
    with_rules(&world, 3, FIRST);
    world.json(&["up"]);
    // A table of the new rules' name that belongs to a running program: nobody else may touch it.
    let mut owner = std::process::Command::new("nft");
    let netns = world.slot(1);
    let owner = netslot::sys::netns::within(netns, || {
        owner.arg("-i").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn()
    });
    let mut owner = owner.expect("entered").expect("nft is there");
    let line = b"add table ip further { flags owner; }\n";
    std::io::Write::write_all(owner.stdin.as_mut().expect("piped"), line).expect("taken");
    while !listing(&world, 1).contains("further") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    with_rules(&world, 3, SECOND);
    let ended = world.netslot(&["--json", "rules", "apply"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("slot 1: rules: ") && ended.stderr.contains("keeps the rules that it had"),
        "{ended:?}"
    );
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("one value");
    assert_eq!((json["slots"].as_u64(), json["failed"][0]["slot"].as_u64()), (Some(2), Some(1)));
    assert_eq!((listing(&world, 0), listing(&world, 2)), (SECOND.into(), SECOND.into()));
    assert!(listing(&world, 1).contains("tcp dport @ports drop"));
    owner.kill().expect("still there");
    owner.wait().expect("ours");
    let json = world.json(&["rules", "apply"]);
    assert_eq!((json["slots"].as_u64(), json["failed"].as_array().map(Vec::len)), (Some(3), Some(0)));
    assert_eq!(listing(&world, 1), SECOND);
    world.configure("slots = 3");
    world.json(&["rules", "apply"]);
    assert_eq!(listing(&world, 1), "");
    assert_eq!(world.netslot(&["up", "--dry-run"]).stdout, "adopt   3 slots as they are\nnothing to do\n");
}

#[test]
fn the_hosts_rules_are_the_same_few_for_any_number_of_slots() {
    let Some(world) = World::new() else { return };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/root.nft");
    let configure = |slots: u32| world.configure(&format!("slots = {slots}\n[rules]\nroot = '{file}'"));
    let root = || {
        let output = std::process::Command::new("nft").args(["-s", "list", "ruleset"]).output().expect("nft is there");
        String::from_utf8(output.stdout).expect("text")
    };
    let nft = |args: &[&str]| assert!(std::process::Command::new("nft").args(args).status().expect("run").success());
    nft(&["add", "table", "inet", "firewall"]);
    configure(1);
    world.json(&["up"]);
    let few = root();
    assert!(few.contains("table inet firewall") && few.contains("table inet netslot_host"), "{few}");
    configure(6);
    assert!(world.netslot(&["up", "--dry-run"]).stdout.contains("make    slots 1-5"));
    world.json(&["up"]);
    assert_eq!(root(), few);
    nft(&["delete", "table", "inet", "netslot_host"]);
    assert!(world.netslot(&["up", "--dry-run"]).stdout.contains("rules   of the host: replace"));
    world.json(&["up"]);
    assert_eq!(root(), few);
    assert_eq!(world.netslot(&["destroy"]).code, 0);
    assert_eq!(root(), "table inet firewall {\n}\n");
}

#[test]
fn rules_that_cannot_be_had_stop_the_pass_before_anything_is_made() {
    let Some(world) = World::new() else { return };
    fs::write("/run/slot.nft", FIRST).expect("written");
    assert_eq!(world.netslot(&["compile-rules", "/run/slot.nft", "-o", "/run/good"]).code, 0);
    assert_eq!(world.netslot(&["compile-rules", "--root", "/run/slot.nft", "-o", "/run/root"]).code, 0);
    let good = fs::read("/run/good").expect("written");
    let write = |name: &str, bytes: &[u8]| fs::write(format!("/run/{name}"), bytes).expect("written");
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    write("newer", &changed(8, 9));
    write("damaged", &changed(good.len() / 2, 0xa5));
    write("short", &good[..good.len() - 7]);
    write("lacking", &lacking(&good));
    write("wrong", b"table inet t {\n\tchain c { type filter hook input priority 0; tcp dport x drop; }\n}\n");
    let many: String = (0..80_000).map(|n| format!("10.{}.{}.{}, ", n >> 16, n >> 8 & 255, n & 255)).collect();
    write("large", format!("table inet t {{\n\tset s {{ type ipv4_addr; elements = {{ {many} }}; }}\n}}\n").as_bytes());
    for (file, words) in [
        ("newer", &["/run/newer: the image has version 9, and this netslot reads version 1"][..]),
        ("damaged", &["/run/damaged: the image is damaged (its checksum does not fit)"]),
        ("short", &["/run/short: the image is damaged (its length is not what it says)"]),
        ("root", &["/run/root: these rules were compiled for the root, not for the slot"]),
        (
            "lacking",
            &[
                "/run/lacking: tried in a scratch namespace, and this kernel refuses rule of chain inet mine input, \
             number 1",
                "ENOENT",
            ],
        ),
        ("wrong", &["nft refuses /run/wrong", "/run/wrong:2:"]),
        ("large", &["/run/large: tried", "bytes in one transaction, and 1048576 are the most"]),
        ("nothing", &["read /run/nothing: No such file"]),
    ] {
        world.configure(&format!("slots = 2\n[rules]\nslot = '/run/{file}'"));
        world.netslot(&["up"]).is_refused(3, words);
        assert_eq!((world.slots(), world.host_ends()), (vec![], 0), "{file}");
    }
}

/// The image with an expression that no kernel has.
fn lacking(image: &[u8]) -> Vec<u8> {
    use netslot::rules::{Image, Ruleset};
    let mut image = Image::from_bytes(image).expect("good");
    let mut objects = image.rules.objects().to_vec();
    for object in &mut objects {
        let at = object.attributes.windows(7).position(|bytes| bytes == b"lookup\0");
        if let Some(at) = at {
            object.attributes[at..at + 6].copy_from_slice(b"lookpu");
        }
    }
    image.rules = Ruleset::of_objects(objects);
    image.to_bytes().expect("small")
}

/// What becomes of a connection, or of a datagram.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Silence,
    Refused(i32),
}

fn fate<T>(done: std::io::Result<T>) -> Fate {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match done {
        Ok(_) => Fate::Answered,
        Err(e) if matches!(e.kind(), TimedOut | WouldBlock) => Fate::Silence,
        Err(e) => Fate::Refused(e.raw_os_error().expect("the kernel's word")),
    }
}

/// Sends one packet of each kind to the slot from beyond the uplink. Shorter than TCP takes to try again, so that the
/// counters count each of them once.
fn sent(world: &World, slot: u32) -> Vec<(u16, Fate)> {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;
    let patience = Duration::from_millis(300);
    let netns = world.slot(slot);
    let open = || {
        let tcp = [1001_u16, 1005, 1008, 1011].map(|port| TcpListener::bind(("0.0.0.0", port)).expect("free"));
        let udp = UdpSocket::bind("0.0.0.0:1010").expect("free");
        (tcp, udp)
    };
    let (tcp, udp) = netslot::sys::netns::within(&netns, open).expect("entered");
    udp.set_read_timeout(Some(patience)).expect("set");
    let to = |port: u16| SocketAddr::from(([100, 64, 0, u8::try_from(slot).expect("few") + 2], port));
    let send = || {
        let mut fates = Vec::new();
        for port in [1001, 1002, 1003, 1005, 1005, 1005, 1006, 1007, 1008, 1009, 1011, 1025, 2222] {
            fates.push((port, fate(TcpStream::connect_timeout(&to(port), patience))));
        }
        let socket = UdpSocket::bind("0.0.0.0:0").expect("free");
        socket.set_read_timeout(Some(patience)).expect("set");
        socket.connect(to(1004)).expect("connected");
        socket.send(&[0; 50]).expect("sent");
        fates.push((1004, fate(socket.recv(&mut [0; 8]))));
        let socket = UdpSocket::bind("0.0.0.0:0").expect("free");
        for _ in 0..3 {
            socket.send_to(&[0; 40], to(1010)).expect("sent"); // 68 bytes each with their headers: the quota has room for one
            fates.push((1010, fate(udp.recv(&mut [0; 64]))));
        }
        fates
    };
    let fates = netslot::sys::netns::within(&world.network, send).expect("entered");
    drop(tcp);
    fates
}

#[test]
fn packets_fare_in_a_slot_as_under_the_rules_as_written() {
    let Some(world) = World::new() else { return };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules/acting.nft");
    world.configure(&format!("slots = 2\n[rules]\nslot = '{file}'"));
    world.json(&["up"]);
    [0, 1].into_iter().for_each(|number| world.open_slot(number));
    // The second slot has them from nft itself.
    world.in_netns(&world.slot(1), "nft", &["flush", "ruleset"]);
    world.in_netns(&world.slot(1), "nft", &["-f", file]);
    let fates = sent(&world, 0);
    assert_eq!(fates, sent(&world, 1));
    let refused = || Fate::Refused(111); // ECONNREFUSED
    for (port, expected) in [
        (1001, &[Fate::Answered][..]),
        (1002, &[Fate::Silence]),
        (1003, &[refused()]),
        (1004, &[refused()]),
        (1005, &[Fate::Answered, Fate::Silence]),
        (1006, &[Fate::Silence]),
        (1008, &[Fate::Answered]),
        (1009, &[Fate::Silence]),
        (1010, &[Fate::Answered, Fate::Silence]),
        (1011, &[Fate::Answered]),
        (1025, &[Fate::Silence]),
        (2222, &[Fate::Answered]),
    ] {
        let of_port: Vec<&Fate> = fates.iter().filter(|(p, _)| *p == port).map(|(_, fate)| fate).collect();
        for one in expected {
            assert!(of_port.contains(&one), "port {port}: {of_port:?}");
        }
    }
    assert!(matches!(fates.iter().find(|(port, _)| *port == 1007), Some((_, Fate::Refused(_)))), "{fates:?}");
    // Counters, quotas and what the packets added to sets.
    let counted = |slot: u32| world.in_netns(&world.slot(slot), "nft", &["list", "ruleset"]);
    let listed = counted(0);
    assert!(listed.contains("packets 1 bytes"), "{listed}");
    let mut pairs: Vec<(String, String)> =
        listed.lines().map(str::to_owned).zip(counted(1).lines().map(str::to_owned)).collect();
    pairs.retain(|(a, b)| a != b);
    assert_eq!(pairs, [], "the slot's, and under the rules as written");
    // Replaced, they begin anew.
    world.json(&["rules", "apply"]);
    let fresh = counted(0);
    assert!(!fresh.contains("packets 1 ") && fresh.contains("packets 0 bytes 0"), "{fresh}");
}

#[test]
fn the_rules_to_start_with_are_taken_and_hold_what_they_say() {
    let Some(world) = World::new() else { return };
    let file = |name: &str| format!("{}/systemd/{name}", env!("CARGO_MANIFEST_DIR"));
    world.configure(&format!("slots = 2\n[rules]\nslot = '{}'\nroot = '{}'", file("slot.nft"), file("root.nft")));
    let up = world.netslot(&["up"]);
    assert_eq!((up.code, up.stderr.contains("warning: the rules")), (0, false), "{up:?}");
    let slot = world.slot(0);
    [0, 1].into_iter().for_each(|number| world.open_slot(number));
    world.in_netns(&slot, "ping", &["-c1", "-W20", NETWORK_IP]);
    world.in_netns(&world.network, "ping", &["-c1", "-W20", "100.64.0.2"]);
    assert!(!world.works_in(&slot, "ping", &["-c1", "-W1", "100.64.0.3"]), "one slot reaches another");
    // As the guest, which stands beyond br0: its packets come by the tap's place in the bridge.
    world.in_netns(&slot, "ip", &["link", "add", "guest", "type", "veth", "peer", "name", "port"]);
    world.in_netns(&slot, "ip", &["link", "set", "port", "master", "br0", "up"]);
    let guest = guest_of(&world, &slot);
    // What is lost before is sent again after a second, which is longer than the connections below are waited for.
    let forwards = || world.in_netns(&slot, "bridge", &["link", "show", "dev", "port"]).contains("state forwarding");
    eventually("the bridge takes the guest's port", forwards);
    world.in_netns(&guest, "ping", &["-c1", "-W20", "172.16.0.1"]);
    let reject = |target: &str, port: u16| {
        let address = std::net::SocketAddr::new(target.parse().expect("an address"), port);
        let connect = || std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(500));
        fate(netslot::sys::netns::within(&guest, connect).expect("entered"))
    };
    assert_eq!(reject("169.254.169.254", 80), Fate::Refused(113), "the metadata service");
    assert_eq!(reject("10.0.0.1", 443), Fate::Refused(113), "a private network");
    assert_eq!(reject(NETWORK_IP, 25), Fate::Refused(111), "mail");
    assert_eq!(reject(NETWORK_IP, 443), Fate::Silence, "the internet: sent, and not answered to a guest's address");
}

/// A namespace that stands in for a guest: `guest` of the slot, moved there, with the guest's address.
fn guest_of(world: &World, slot: &std::os::fd::OwnedFd) -> std::os::fd::OwnedFd {
    let netns = netslot::sys::thread::apart(|| {
        netslot::sys::netns::make().expect("root");
        netslot::sys::netns::current().expect("our own")
    })
    .expect("a thread");
    fs::create_dir_all("/run/netns").expect("a directory");
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&netns));
    std::os::unix::fs::symlink(path, "/run/netns/guest").expect("a name");
    world.in_netns(slot, "ip", &["link", "set", "guest", "netns", "guest"]);
    world.in_netns(&netns, "ip", &["addr", "add", "172.16.0.2/30", "dev", "guest"]);
    world.in_netns(&netns, "ip", &["link", "set", "guest", "address", "06:00:ac:10:00:02", "up"]);
    world.in_netns(&netns, "ip", &["route", "add", "default", "via", "172.16.0.1"]);
    netns
}
