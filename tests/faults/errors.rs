//! The kernel refuses a call: each class of calls, each with the numbers that it may come with, at one place after the
//! other. The command tells what failed and ends, or gets by; either way the next run finds nothing that it cannot mend.
//! The refusals are strace's: the call never reaches the kernel.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use netslot_protocol::State as SlotState;
use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Ended, World};
use crate::loops::{all, must, pool};
use crate::served::{PATIENCE, SOCKET, Served};
use crate::state::State;

/// Calls of a class, and what the kernel may say to them.
const CLASSES: [(&str, &[&str]); 8] = [
    ("sendto,sendmsg,sendmmsg", &["ENOBUFS", "EINTR"]),
    ("recvfrom", &["ENOBUFS", "ENOMEM", "EINTR"]),
    ("ioctl", &["EBUSY", "ENODEV"]),
    ("openat", &["EMFILE", "ENOMEM", "EINTR"]),
    ("socket,accept4", &["EMFILE", "ENOBUFS"]),
    ("mount,move_mount,open_tree,umount2", &["EBUSY", "ENOMEM"]),
    ("unshare,setns", &["ENOMEM", "EMFILE"]),
    ("clone,clone3", &["ENOMEM", "EAGAIN"]),
];

/// strace that refuses each thread one call of the class.
fn refusing(calls: &str, errno: &str, when: u32) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:error={errno}:when={when}")]).stdin(Stdio::null());
    command
}

/// The command under it.
fn refused(world: &World, args: &[&str], calls: &str, errno: &str, when: u32) -> Command {
    let plain = world.command(args);
    let mut command = refusing(calls, errno, when);
    command.arg("--seccomp-bpf").arg(plain.get_program()).args(plain.get_args());
    command
}

/// Each class and number with some places to refuse at; a sample of `numbers` for each class, at one place each.
fn cases(most: u32, numbers: usize) -> impl Iterator<Item = (&'static str, &'static str, u32)> {
    let numbers = if all() { usize::MAX } else { numbers };
    let pairs =
        CLASSES.iter().flat_map(move |(calls, errnos)| errnos.iter().take(numbers).map(|errno| (*calls, *errno)));
    // The first call of a kind is made at start; a sample takes one that is made at work, each time another.
    (0..).zip(pairs).flat_map(move |(number, (calls, errno))| {
        let places = if all() { 1..=most } else { 2 + number % 4..=2 + number % 4 };
        places.map(move |when| (calls, errno, when))
    })
}

/// A refusal that is told: which call, and the kernel's words.
fn is_told(ended: &Ended, what: &str) {
    assert!((1..=7).contains(&ended.code) && !ended.stderr.trim().is_empty(), "{what}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
}

#[test]
fn a_pass_that_the_kernel_refuses_something_is_finished_by_the_next() {
    let Some((world, whole)) = pool("") else { return };
    must(&world, &["destroy"]);
    let bare = State::of(&world);
    let (mut runs, mut ends) = (0, 0);
    for (calls, errno, when) in cases(12, 1).step_by(if all() { 1 } else { 2 }) {
        let what = format!("{errno} of {calls}, number {when}");
        runs += 2;
        let ended = Ended::of(refused(&world, &["up"], calls, errno, when).output().expect("strace is there"));
        if ended.code == 0 {
            State::of(&world).must_be(&whole, &what);
        } else {
            is_told(&ended, &what);
            ends += 1;
            must(&world, &["up"]);
            State::of(&world).must_be(&whole, &format!("{what}: {}", ended.stderr));
        }
        let ended = Ended::of(refused(&world, &["destroy"], calls, errno, when).output().expect("strace is there"));
        if ended.code != 0 {
            is_told(&ended, &what);
            ends += 1;
            must(&world, &["destroy"]);
        }
        State::of(&world).must_be(&bare, &format!("{what}, then taken down: {}", ended.stderr));
    }
    eprintln!("FAULT up, destroy: {runs} runs refused a call, {ends} ended by it");
    assert!(ends > runs / 8, "{ends} of {runs} were refused anything");
}

/// Leases and releases with and without taps; what is refused is asked for again.
fn use_it(patience: Duration) -> Result<(), ClientError> {
    let mut client = Client::connect_as(SOCKET.as_ref(), "test", patience)?;
    for want_tap in [false, true, false] {
        let options = LeaseOptions { wait: patience, want_netns: true, want_tap, ..LeaseOptions::default() };
        for lease in client.lease(&options)? {
            client.release(lease.id)?;
        }
    }
    client.list().map(drop)
}

#[test]
fn a_daemon_that_the_kernel_refuses_something_says_so_and_loses_nothing() {
    let Some((world, _)) = pool("quotas.wait_ms_max = 300000") else { return };
    assert_eq!(Served::start(&world, &["serve"]).stop(), 0);
    let rest = State::of(&world);
    let (mut runs, mut ends, mut refusals) = (0, 0, 0);
    for (calls, errno, when) in cases(8, 1).step_by(if all() { 1 } else { 2 }) {
        let what = format!("{errno} of {calls}, number {when}");
        runs += 2;
        // While it starts: it ends and says why, or serves.
        let mut command = refused(&world, &["serve"], calls, errno, when);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace is there");
        while child.try_wait().expect("asked").is_none() {
            if Client::connect(SOCKET.as_ref()).is_ok() {
                // It may have ended since: then strace, which has nobody left to trace, says how.
                if let Some(daemon) = daemon_of(child.id()) {
                    let _ = kill(daemon, Signal::SIGKILL);
                }
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = Ended::of(child.wait_with_output().expect("ended"));
        if ended.code != 128 + Signal::SIGKILL as i32 && ended.code != -1 {
            is_told(&ended, &what);
            ends += 1;
        }
        // While it serves: what is refused is asked for again, and once the kernel gives again, all is well.
        let served = Served::start(&world, &["serve"]);
        let mut strace = refusing(calls, errno, when).args(["-p", &served.pid().to_string()]).spawn().expect("started");
        let traced = || !status_of(served.pid()).contains("TracerPid:\t0\n");
        served.until(traced, "strace never came");
        let refused = (0..3).map(|_| use_it(TRY)).take_while(Result::is_err).count();
        refusals += u32::from(refused > 0);
        kill(pid(strace.id()), Signal::SIGINT).expect("it is there");
        strace.wait().expect("ended");
        use_it(PATIENCE).unwrap_or_else(|error| panic!("{what}: not served on: {error}; {}", served.log()));
        (0..2).for_each(|slot| served.wait_for(slot, SlotState::Free));
        assert!(!served.log().contains("panicked"), "{what}: {}", served.log());
        assert_eq!(served.stop(), 0);
        State::of(&world).must_be(&rest, &what);
    }
    eprintln!("FAULT serve: {runs} runs refused a call, {ends} ended by it, {refusals} refused a client for it");
    assert!(ends + refusals > runs / 8, "{ends} and {refusals} of {runs} were refused anything");
    assert!(refusals > 0, "no client was ever refused: the kernel never refused the daemon at work");
}

/// strace that refuses the daemon's threads each of these calls from now on, or the first alone.
fn refuse_running(served: &Served<'_>, inject: &str) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("inject={inject}")]).stdin(Stdio::null());
    let strace = command.args(["-p", &served.pid().to_string()]).spawn().expect("strace is there");
    served.until(|| !status_of(served.pid()).contains("TracerPid:\t0\n"), "strace never came");
    strace
}

fn refuse_no_more(mut strace: Child) {
    kill(pid(strace.id()), Signal::SIGINT).expect("it is there");
    strace.wait().expect("ended");
}

#[test]
fn a_client_that_could_not_be_accepted_is_a_moment_later() {
    let Some((world, _)) = pool("") else { return };
    let served = Served::start(&world, &["serve"]);
    for errno in ["ENOBUFS", "ENOMEM", "ENFILE"] {
        let strace = refuse_running(&served, &format!("accept4:error={errno}:when=1..2"));
        let mut client = Client::connect_as(SOCKET.as_ref(), "test", TRY).expect("taken without another one coming");
        assert_eq!(client.status().expect("served").pid, served.pid());
        refuse_no_more(strace);
    }
    assert!(served.log().contains("accept: ENOBUFS"), "{}", served.log());
    assert_eq!(served.stop(), 0);
}

#[test]
fn an_error_names_the_call_that_failed() {
    let Some((world, _)) = pool("") else { return };
    let served = Served::start(&world, &["serve"]);
    let mut client = served.client();
    for (call, told) in [("memfd_create", "memfd_create: "), ("fcntl", "fcntl(F_ADD_SEALS): ")] {
        let strace = refuse_running(&served, &format!("{call}:error=ENOMEM"));
        let refused = client.list().expect_err("nothing to write it into").to_string();
        assert!(refused.contains(told) && refused.contains("Cannot allocate memory"), "{refused}");
        refuse_no_more(strace);
    }
    let lease = client.lease(&LeaseOptions { want_netns: true, ..LeaseOptions::default() }).expect("free").remove(0);
    // Taps are opened by copies of the namespace's descriptor.
    let strace = refuse_running(&served, "fcntl:error=EMFILE");
    let options = LeaseOptions { want_tap: true, ..LeaseOptions::default() };
    let refused = client.lease(&options).expect_err("no copy").to_string();
    assert!(refused.contains("slot 1: fcntl(F_DUPFD_CLOEXEC)"), "{refused}");
    refuse_no_more(strace);
    let strace = refuse_running(&served, "fsopen:error=ENOMEM");
    client.release(lease.id).expect("ours");
    served.until(|| served.log().contains("proc file system: Cannot allocate memory"), "never told");
    refuse_no_more(strace);
    (0..2).for_each(|slot| served.wait_for(slot, SlotState::Free));
    assert_eq!(served.stop(), 0);
}

/// Long enough for a slot to be made anew, which a refused scrub leads to.
const TRY: Duration = Duration::from_secs(5);

fn status_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).expect("readable")
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a pid"))
}

/// strace's child, as long as there is one.
fn daemon_of(strace: u32) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).expect("readable");
    children.split_whitespace().next().and_then(|child| child.parse().ok()).map(pid)
}
