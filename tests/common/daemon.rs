//! The real daemon over a world's pool, through the real commands; stopped with the test.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::World;

/// Longer than anything here takes on a busy machine; only a failure waits for it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A daemon over a pool of its own, stopped with the test.
pub struct Daemon<'a> {
    world: &'a World,
    process: Child,
}

impl<'a> Daemon<'a> {
    /// Makes the pool that the configuration says and serves it.
    pub fn over(world: &'a World, toml: &str) -> Self {
        world.configure(toml);
        world.json(&["up"]);
        Self::start(world)
    }

    pub fn start(world: &'a World) -> Self {
        let process = world.command(&["serve"]).stderr(Stdio::inherit()).spawn().expect("started");
        let daemon = Self { world, process };
        eventually("the daemon answers", || world.netslot(&["-qq", "status"]).code == 0);
        daemon
    }

    pub fn kill(mut self) {
        self.process.kill().expect("killed");
    }

    pub fn slots(&self, state: &str) -> Vec<Value> {
        let list = self.world.json(&["list", "--state", state]);
        list.as_array().unwrap_or_else(|| panic!("list printed {list}")).clone()
    }

    pub fn lease(&self) -> Value {
        self.world.json(&["lease"])
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = kill(pid(&self.process), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

pub fn pid(process: &Child) -> Pid {
    Pid::from_raw(i32::try_from(process.id()).expect("a pid"))
}

#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn number(value: &Value, key: &str) -> String {
    value[key].as_u64().unwrap_or_else(|| panic!("no number '{key}' in {value}")).to_string()
}

/// The arguments that name a lease.
pub fn named(lease: &Value) -> [String; 3] {
    [number(lease, "slot"), "--generation".into(), number(lease, "generation")]
}

pub fn args<'a>(command: &'a str, lease: &'a [String; 3], more: &[&'a str]) -> Vec<&'a str> {
    let [slot, flag, generation] = lease;
    [&[command, slot, flag, generation], more].concat()
}
