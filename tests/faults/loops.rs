//! Killed after the n-th change, for n from 1 until a run gets by without being killed.

use std::process::{Command, Output};
use std::time::Instant;

use crate::common::{Ended, World};
use crate::state::{self, State};

/// Whether every place is tried.
pub fn all() -> bool {
    std::env::var("FAULT").is_ok_and(|value| value == "all")
}

/// The places to be killed at: all of them, or some that differ from one another by an odd number, so that they are not
/// the same of each slot.
pub fn places(changes: u64, sample: u64) -> Vec<u64> {
    let step = if all() { 1 } else { (changes / sample).max(1) | 1 };
    let step = usize::try_from(step).expect("small");
    (1..=changes).step_by(step).collect()
}

/// Runs the binary until it is killed after so many changes, or ends before that.
pub fn killed_after(world: &World, args: &[&str], changes: u64) -> bool {
    let output = with_fault(world, args, changes).output().expect("started");
    is_killed(args, changes, &output)
}

pub fn with_fault(world: &World, args: &[&str], changes: u64) -> Command {
    let mut command = world.command(args);
    command.env("NETSLOT_FAULT", changes.to_string());
    command
}

fn is_killed(args: &[&str], changes: u64, output: &Output) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    if output.status.signal() == Some(nix::libc::SIGKILL) {
        return true;
    }
    assert!(output.status.success(), "{args:?}, to be killed after {changes}: {output:?}");
    false
}

/// How many changes the command makes when nothing disturbs it.
pub fn changes(world: &World, args: &[&str]) -> u64 {
    let ended = Ended::of(with_fault(world, args, 1_000_000).output().expect("started"));
    assert_eq!(ended.code, 0, "{ended:?}");
    changes_in(&ended.stderr)
}

/// The number of changes that a run has told.
pub fn changes_in(stderr: &str) -> u64 {
    let word = stderr.split("NETSLOT_FAULT: ").nth(1).and_then(|rest| rest.split(' ').next());
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number of changes in: {stderr}"))
}

pub fn must(world: &World, args: &[&str]) {
    let ended = world.netslot(args);
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
}

/// Two slots, made on one thread, by that configuration besides; and all that there is then.
pub fn pool(more: &str) -> Option<(World, State)> {
    let world = World::new()?;
    state::cover_knobs();
    world.configure(&format!("slots = 2\nthreads = 1\n{more}"));
    must(&world, &["up"]);
    let whole = State::of(&world);
    Some((world, whole))
}

/// What is told at the end.
pub struct Table {
    what: &'static str,
    changes: u64,
    began: Instant,
    tries: u64,
    kills: u64,
    again: u64,
}

impl Table {
    pub fn new(what: &'static str, changes: u64) -> Self {
        Self { what, changes, began: Instant::now(), tries: 0, kills: 0, again: 0 }
    }

    pub fn kill(&mut self, killed: bool) -> bool {
        self.tries += 1;
        self.kills += u64::from(killed);
        killed
    }

    /// Whether nearly all were killed. Some changes are not made in every run: sysctls are written, or handed on where
    /// somebody else on the machine has the kernel do so meanwhile.
    pub fn is_sound(&self) -> bool {
        self.kills * 10 >= self.tries * 9
    }

    /// Whether any was: how many changes there are before the end depends on who is quicker.
    pub fn has_killed(&self) -> bool {
        self.kills > 0
    }

    /// A recovery may have less to do than the number says.
    pub fn kill_again(&mut self, killed: bool) {
        self.again += u64::from(killed);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let Self { what, changes, began, kills, again, .. } = self;
        let took = began.elapsed().as_secs_f64();
        eprintln!(
            "FAULT {what}: {changes} changes, killed after {kills} of them, {again} recoveries killed, {took:.1} s"
        );
    }
}

const RULES: &str = "table inet t {\n chain c {\n  type filter hook forward priority 0\n  tcp dport 25 drop\n }\n}\n";

#[test]
fn a_pass_killed_after_any_change_is_finished_by_the_next() {
    let Some(world) = World::new() else { return };
    state::cover_knobs();
    // One thread: the same places in every run.
    std::fs::write("/run/slot.nft", RULES).expect("written");
    world.configure("slots = 2\nthreads = 1\nrules.slot = \"/run/slot.nft\"\nrules.root = \"/run/slot.nft\"");
    let before = State::of(&world);
    let count = changes(&world, &["up"]);
    let whole = State::of(&world);
    let down = changes(&world, &["destroy"]);
    let bare = State::of(&world);
    bare.clone().without(".lock").without(".image").must_be(&before, "taken down");
    let mut table = Table::new("up", count);
    for (index, n) in places(count, 6).into_iter().enumerate() {
        // As in the first run, the rules are to be compiled.
        for purpose in ["slot", "root"] {
            std::fs::remove_file(format!("{}/rules-{purpose}.image", state::RUN_DIR)).expect("kept by the pass before");
        }
        table.kill(killed_after(&world, &["up"], n));
        // And the recovery as well, each time at another place.
        if all() || index % 3 == 0 {
            table.kill_again(killed_after(&world, &["up"], 1 + n * 7 % count));
        }
        must(&world, &["up"]);
        State::of(&world).must_be(&whole, &format!("killed after {n} of {count}"));
        assert!(world.netslot(&["up", "--dry-run"]).stdout.ends_with("nothing to do\n"), "killed after {n}");
        must(&world, &["destroy"]);
        State::of(&world).must_be(&bare, &format!("killed after {n} of {count}, then taken down"));
    }
    assert!(table.is_sound(), "too few were killed");
    drop(table);
    let mut table = Table::new("destroy", down);
    for (index, n) in places(down, 4).into_iter().enumerate() {
        must(&world, &["up"]);
        table.kill(killed_after(&world, &["destroy"], n));
        if index % 2 == 0 {
            // Whoever changes their mind gets the pool back.
            must(&world, &["up"]);
            State::of(&world).must_be(&whole, &format!("destroy killed after {n} of {down}, then made"));
        } else {
            table.kill_again(killed_after(&world, &["destroy"], 1 + n / 2));
        }
        must(&world, &["destroy"]);
        State::of(&world).must_be(&bare, &format!("destroy killed after {n} of {down}"));
    }
    assert!(table.is_sound(), "too few were killed");
}
