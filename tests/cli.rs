//! The command line as scripts see it: exit codes, what goes to stdout and what to stderr, readers that go away.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};

fn netslot(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netslot"));
    command.args(args).env_remove("NETSLOT_LOG").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = netslot(args).output().expect("started");
    (status.code(), String::from_utf8(stdout).expect("text"), String::from_utf8(stderr).expect("text"))
}

/// A configuration file and the directory that keeps it.
fn config(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("netslot.toml");
    fs::write(&path, text).expect("written");
    let path = path.to_str().expect("text").to_owned();
    (dir, path)
}

#[test]
fn help_goes_to_stdout_and_names_the_exit_codes() {
    let (code, stdout, stderr) = run(&["--help"]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    for line in ["Exit codes:", "    3  the configuration is refused", "  130  stopped by SIGINT"] {
        assert!(stdout.contains(line), "{line} is not in\n{stdout}");
    }
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!((code, &*stdout), (Some(0), concat!("netslot ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn wrong_usage_ends_with_2_and_prints_nothing() {
    for args in [&["nonsense"][..], &["lease", "--wait", "2"], &["exec"], &[]] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, &*stdout), (Some(2), ""), "{args:?}: {stderr}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn a_refused_configuration_ends_with_3_and_names_file_line_and_key() {
    let (_dir, path) = config("slots = 8\n[guest]\ntap = 've-0'\nmac = 1\n");
    let (code, stdout, stderr) = run(&["config", "--config", &path]);
    assert_eq!((code, &*stdout), (Some(3), ""));
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    assert_eq!(lines[0], "netslot: error: 2 things are wrong with the configuration");
    assert!(lines[1].starts_with(&format!("  {path}:3: guest.tap: 've-0' starts with 've-'")), "{stderr}");
    assert!(lines[2].starts_with(&format!("  {path}:4: guest.mac: a number where a MAC address")), "{stderr}");

    let (code, _, stderr) = run(&["config", "--config", "/nonexistent/netslot.toml"]);
    assert_eq!(code, Some(3));
    assert_eq!(stderr, "netslot: error: read /nonexistent/netslot.toml: No such file or directory (os error 2)\n");
}

#[test]
fn the_configuration_is_printed_as_toml_that_is_taken_again_and_as_one_json_value() {
    let (_dir, path) = config("\nslots = 8\n");
    let (code, toml, stderr) = run(&["config", "--config", &path]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(toml.lines().next().is_some_and(|line| line.ends_with(&format!("# {path}:2"))), "{toml}");
    let (_again, path_again) = config(&toml);
    let (code, json, _) = run(&["config", "--json", "--config", &path_again]);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&json).expect("one value");
    assert_eq!(json["slots"], 8);
    let (code, stdout, stderr) = run(&["config", "--check", "--config", &path]);
    assert_eq!((code, &*stdout, &*stderr), (Some(0), "", "netslot: the configuration would be taken: 8 slots\n"));
    let (code, stdout, stderr) = run(&["config", "--check", "-q", "--config", &path]);
    assert_eq!((code, &*stdout, &*stderr), (Some(0), "", ""));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let (_dir, path) = config("");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = netslot(&["config", "--config", &path]).stdout(writer).stderr(Stdio::piped()).output().expect("run");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn a_full_disk_is_a_failure() {
    let (_dir, path) = config("");
    let full = File::options().write(true).open("/dev/full").expect("there on Linux");
    let output = netslot(&["config", "--config", &path]).stdout(full).stderr(Stdio::piped()).output().expect("run");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(stderr, "netslot: error: write to stdout: No space left on device (os error 28)\n");
}

#[test]
fn only_the_journals_own_stream_gets_syslog_levels() {
    let (_dir, path) = config("slots = 0");
    let told = |journal: bool| {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let stream = fs::metadata(format!("/proc/self/fd/{}", writer.as_raw_fd())).expect("a pipe has an inode");
        let inode = if journal { stream.ino() } else { stream.ino() + 1 };
        let mut command = netslot(&["config", "--config", &path]);
        let status = command.env("JOURNAL_STREAM", format!("{}:{inode}", stream.dev())).stderr(writer).status();
        drop(command); // and with it the writing end
        assert_eq!(status.expect("run").code(), Some(3));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    };
    assert!(told(true).starts_with(&format!("<3>{path}:1: slots: 0 is out of range")));
    assert!(told(false).starts_with(&format!("netslot: error: {path}:1: slots: 0 is out of range")));
}
