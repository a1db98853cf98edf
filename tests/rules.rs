//! Rules against the real kernel: what nft and iptables make of a text, and what slots get of it, are the same.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Ended, World};

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
