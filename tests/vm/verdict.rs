//! What a VM's two serial lines say: the checks of its scenario on one, the kernel's complaints on the other; pure.

/// Begins of kernel lines after which nothing more comes, or nothing that counts.
const FATAL: [&str; 6] = [
    "Kernel panic",
    "INFO: task ",
    "self-detected stall",
    "detected stalls on CPUs",
    "BUG: soft lockup",
    "watchdog: BUG:",
];

/// What no kernel says that is well.
const SPLATS: [&str; 10] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "general protection fault",
    "unregister_netdevice: waiting for",
    "suspicious RCU usage",
    "possible recursive locking",
    "possible circular locking",
    "KASAN",
    "UBSAN",
];

/// The line with which the kernel gave up, if it did.
pub fn fatal(kernel: &str) -> Option<&str> {
    kernel.lines().find(|line| FATAL.iter().any(|word| line.contains(word)))
}

/// What a scenario came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Names of the checks that hold.
    pub held: Vec<String>,
    /// What did not, one line each; empty = all is well.
    pub wrong: Vec<String>,
    /// Figures that the scenario measured, as it printed them.
    pub measured: Vec<String>,
}

/// Reads both lines of a VM that has ended.
pub fn read(checks: &str, kernel: &str) -> Verdict {
    let lines: Vec<&str> = checks.lines().map(str::trim_end).collect();
    let named = |prefix: &str| lines.iter().filter_map(|l| l.strip_prefix(prefix)).map(str::to_owned).collect();
    let held: Vec<String> = named("ok ");
    let mut wrong: Vec<String> = named("FAIL ");
    if !lines.contains(&"done") {
        wrong.push("the scenario did not come to its end".into());
    } else if held.is_empty() && wrong.is_empty() {
        wrong.push("the scenario checked nothing".into());
    }
    let complaint = |line: &&str| SPLATS.iter().chain(&FATAL).any(|word| line.contains(word));
    wrong.extend(kernel.lines().filter(complaint).map(|line| format!("the kernel: {}", line.trim_end())));
    Verdict { held, wrong, measured: named("measured ") }
}

#[test]
fn a_scenario_that_ends_with_every_check_held_is_well() {
    let verdict = read("boot noise\r\nok up\r\nmeasured up 3 s\r\nok down\r\ndone\r\n", "Linux version 6.12\n");
    assert_eq!((verdict.held.len(), verdict.wrong.len()), (2, 0));
    assert_eq!(verdict.measured, ["up 3 s"]);
}

#[test]
fn a_failed_check_a_missing_end_an_empty_run_and_a_splat_are_each_wrong() {
    assert_eq!(read("ok a\nFAIL b: exit 1\ndone\n", "").wrong, ["b: exit 1"]);
    assert_eq!(read("ok a\n", "").wrong, ["the scenario did not come to its end"]);
    assert_eq!(read("done\n", "").wrong, ["the scenario checked nothing"]);
    let splat = "[ 1.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1\n";
    assert_eq!(read("ok a\ndone\n", splat).wrong.len(), 1);
    assert!(fatal(splat).is_none());
    assert!(fatal("[ 9.0] Kernel panic - not syncing: Attempted to kill init!").is_some());
}
