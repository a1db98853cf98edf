//! The backend of the `log` crate: stderr, with syslog levels for the journal, or the kernel's log; it filters by level
//! and does nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Bytes of one write that /dev/kmsg takes. 6.18 takes 1,024 (tried) and answers EINVAL past it; older kernels subtract
/// their prefix of up to 48 (`LOG_LINE_MAX`, kernel/printk/printk.c, 6.1).
const KMSG_RECORD_BYTES_MAX: usize = 976;

struct Logger {
    /// Prefix each line with its syslog level: the journal reads it.
    journal: bool,
    /// /dev/kmsg, when that is where it goes.
    kmsg: Option<File>,
}

/// The level that -v, -q and NETSLOT_LOG ask for; the options go before the environment.
#[must_use]
pub fn level(verbose: u8, quiet: u8) -> LevelFilter {
    level_of(verbose, quiet, std::env::var("NETSLOT_LOG").ok().as_deref())
}

fn level_of(verbose: u8, quiet: u8, environment: Option<&str>) -> LevelFilter {
    match (verbose, quiet) {
        (0, 0) => environment.and_then(|word| word.parse().ok()).unwrap_or(LevelFilter::Info),
        (0, 1) => LevelFilter::Warn,
        (0, _) => LevelFilter::Error,
        (1, _) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

/// Installs the backend. Where /dev/kmsg is asked for and cannot be written, stderr is used and told so.
pub fn start(level: LevelFilter, kmsg: bool) {
    let file = kmsg.then(|| OpenOptions::new().write(true).open("/dev/kmsg"));
    let refused = file.as_ref().and_then(|f| f.as_ref().err().map(ToString::to_string));
    let logger = Logger { journal: stderr_is_the_journal(), kmsg: file.and_then(Result::ok) };
    // A second call (tests) keeps the first backend: both write to the same place.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
    if let Some(refused) = refused {
        log::warn!("open /dev/kmsg: {refused}: telling it on stderr");
    }
}

/// JOURNAL_STREAM holds device and inode of the stream that systemd gave us; a child whose stderr went elsewhere still
/// inherits the variable, hence the comparison (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Syslog's number for a level.
const fn syslog(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// One line for people, `netslot: warning: …`.
fn for_people(level: Level, line: &str) -> String {
    let word = match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info | Level::Debug | Level::Trace => "",
    };
    format!("netslot: {word}{line}\n")
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, text) = (record.level(), record.args().to_string());
        let number = syslog(level);
        if let Some(mut kmsg) = self.kmsg.as_ref() {
            for line in text.lines() {
                let mut entry = format!("<{number}>netslot: {line}").into_bytes();
                entry.truncate(KMSG_RECORD_BYTES_MAX);
                // One write is one record; there is nowhere left to tell that it failed.
                let _ = kmsg.write_all(&entry);
            }
            return;
        }
        let mut whole = String::new();
        for (i, line) in text.lines().enumerate() {
            whole += &match (self.journal, i) {
                (true, _) => format!("<{number}>{line}\n"),
                (false, 0) => for_people(level, line),
                (false, _) => format!("  {line}\n"),
            };
        }
        // One write, so that lines of several threads do not mix.
        let _ = std::io::stderr().write_all(whole.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_before_the_environment() {
        assert_eq!(level_of(0, 0, None), LevelFilter::Info);
        assert_eq!(level_of(0, 0, Some("debug")), LevelFilter::Debug);
        assert_eq!(level_of(0, 0, Some("loud")), LevelFilter::Info);
        assert_eq!(level_of(0, 1, Some("debug")), LevelFilter::Warn);
        assert_eq!(level_of(0, 2, None), LevelFilter::Error);
        assert_eq!(level_of(1, 0, Some("error")), LevelFilter::Debug);
        assert_eq!(level_of(3, 0, None), LevelFilter::Trace);
    }

    #[test]
    fn people_see_the_level_only_where_it_matters() {
        assert_eq!(for_people(Level::Error, "x"), "netslot: error: x\n");
        assert_eq!(for_people(Level::Warn, "x"), "netslot: warning: x\n");
        assert_eq!(for_people(Level::Info, "x"), "netslot: x\n");
    }
}
