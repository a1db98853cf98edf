//! Under a service manager: its socket, its notifications, its limits.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use netslot::sys::confine::SERVING;
use netslot::sys::seqpacket;
use netslot_protocol::client::Client;
use netslot_protocol::{ErrorCode, State};
use nix::sys::stat::Mode;

use crate::common::{Ended, World};
use crate::manager::bound;
use crate::served::{PATIENCE, SOCKET, Served, code};

#[test]
fn the_service_managers_socket_is_used_and_it_is_told_how_things_are() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 2");
    std::fs::create_dir_all("/run/netslot").expect("made");
    let listener = seqpacket::listen_at(SOCKET.as_ref(), Mode::from_bits_truncate(0o600)).expect("listens");
    let manager = bound("/run/notify");
    manager.set_read_timeout(Some(PATIENCE)).expect("set");
    let serve = world.command(&["serve", "--up"]);
    // LISTEN_PID is the daemon's own, which only a process that becomes the daemon can know.
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    command.env("LISTEN_FDS", "1").env("NOTIFY_SOCKET", "/run/notify").env("WATCHDOG_USEC", "20000");
    // Out of the way of the number that it is to have: a copy onto itself would end with the exec.
    let fd = nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(200)).expect("a copy");
    // SAFETY: dup2 is async-signal-safe, and both numbers are plain.
    unsafe {
        command.pre_exec(move || match nix::libc::dup2(fd, 3) {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let served = Served::spawn(&world, command);
    let mut told = String::new();
    let mut until = |word: &str| {
        let mut room = [0; 512];
        while !told.contains(word) {
            let len = manager.recv(&mut room).unwrap_or_else(|error| panic!("{word}: {error}; told so far: {told}"));
            told += &String::from_utf8_lossy(&room[..len]);
            told += "\n";
        }
        told.clone()
    };
    until("READY=1");
    assert_eq!(served.client().status().expect("told").slots, 2);
    until("WATCHDOG=1");
    assert_eq!(served.stop(), 0);
    let told = until("STOPPING=1");
    assert!(told.contains("STATUS=making the pool") && told.contains("STATUS=serving"), "{told}");
    assert!(std::fs::exists(SOCKET).expect("looked"), "the socket is the manager's, and stays");
}

#[test]
fn a_priority_is_the_loops_alone() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    let serve = world.command(&["serve", "--up"]);
    let mut command = Command::new("nice");
    command.args(["-n", "-10"]).arg(serve.get_program()).args(serve.get_args());
    let served = Served::spawn(&world, command);
    served.wait_for(0, State::Free);
    let nice = |path: std::path::PathBuf| {
        // One that has ended since is none.
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let (name, rest) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).expect("a name");
        Some((name.to_owned(), rest.split_whitespace().nth(16).expect("a nice value").to_owned()))
    };
    let expected = [("builder", "0"), ("netslot", "-10"), ("worker", "0")];
    let expected = expected.map(|(name, nice)| (name.to_owned(), nice.to_owned()));
    let mut last = Vec::new();
    // A thread has its maker's until it has run for the first time.
    let as_expected = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", served.pid())).expect("a process");
        let mut nices: Vec<_> = threads.filter_map(|thread| nice(thread.expect("listed").path())).collect();
        nices.retain(|(name, _)| ["netslot", "worker", "builder"].contains(&&**name));
        nices.sort();
        nices.dedup();
        last.clone_from(&nices);
        nices == expected
    };
    served.until(as_expected, "the priorities never were as expected");
}

#[test]
fn too_few_files_are_told_at_start_or_to_the_client_that_is_one_too_many() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 4");
    let limited = |files: u32| {
        let serve = world.command(&["serve", "--up"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}")).arg(serve.get_program()).args(serve.get_args());
        command
    };
    let ended = Ended::of(limited(60).output().expect("prlimit is there"));
    ended.is_refused(4, &["68 file descriptors are needed for 4 slots", "may open 60", "LimitNOFILE="]);
    let served = Served::spawn(&world, limited(80));
    let mut bystander = served.client();
    let mut held = Vec::new();
    let refused = loop {
        match Client::connect(SOCKET.as_ref()) {
            Ok(client) => held.push(client),
            Err(error) => break error,
        }
        assert!(held.len() < 80, "more connections than files");
    };
    assert_eq!(code::<()>(Err(refused)), ErrorCode::QuotaConnections);
    assert_eq!(bystander.status().expect("served on").slots, 4);
    drop(held);
    served.until(|| bystander.status().expect("told").connections == 1, "the connections never went");
    assert_eq!(served.client().status().expect("told").slots, 4);
}

#[test]
fn more_descriptors_announced_than_passed_are_refused_and_none_of_the_daemons_own_is_taken() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    world.json(&["up"]);
    let serve = world.command(&["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3>&-"]);
    let ended = Ended::of(command.arg(serve.get_program()).args(serve.get_args()).output().expect("sh is there"));
    ended.is_refused(1, &["what the service manager passed ($LISTEN_FDS", "Bad file descriptor"]);
    // Its place is free, and nothing is in the way of the next.
    assert_eq!(Served::start(&world, &["serve"]).stop(), 0);
}

#[test]
fn every_thread_keeps_five_capabilities_and_gains_none() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 2\nthreads = 2");
    world.json(&["up"]);
    let served = Served::start(&world, &["serve"]);
    served.wait_for(1, State::Free);
    let kept = SERVING.iter().fold(0_u64, |mask, capability| mask | 1 << *capability as u8);
    let kept = format!("{kept:016x}");
    let none = "0000000000000000";
    let expected = [("CapInh", none), ("CapPrm", &*kept), ("CapEff", &*kept), ("CapAmb", none)];
    let expected = expected.iter().chain(&[("NoNewPrivs", "1"), ("Seccomp", "2")]);
    let threads = std::fs::read_dir(format!("/proc/{}/task", served.pid())).expect("a process");
    let mut seen = 0;
    for thread in threads {
        let status = std::fs::read_to_string(thread.expect("listed").path().join("status")).expect("a thread");
        for (field, value) in expected.clone() {
            assert!(status.contains(&format!("\n{field}:\t{value}\n")), "{field} is not {value}: {status}");
        }
        seen += 1;
    }
    // The loop, the builder, two workers, and the one that closes sockets.
    assert_eq!(seen, 5);
}
