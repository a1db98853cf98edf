//! Shows on stderr how far a pass is: a bar on a terminal, a line per second elsewhere; reads the counters, drives
//! nothing.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::execute::{Now, Progress};
use crate::sys::thread;

/// Between two drawings of the bar: fast enough to look alive, slow enough to cost nothing.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// Between two lines where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Cells of the bar.
const BAR_CELLS: usize = 30;

/// Runs the work, and shows its progress while it runs.
pub fn shown<R>(progress: &Progress, work: impl FnOnce() -> R) -> R {
    if !log::log_enabled!(log::Level::Info) {
        return work();
    }
    let terminal = stderr().is_terminal();
    let every = if terminal { BAR_EVERY } else { LINE_EVERY };
    std::thread::scope(|scope| {
        let (done, wait) = channel::<()>();
        // Without it the work goes on unseen.
        let _ = thread::beside(scope, move || {
            while wait.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let now = progress.now();
                if now.total > 0 {
                    // A stderr that is gone is no reason to stop the pass.
                    let _ = if terminal {
                        write!(stderr(), "\r\x1b[K{}", bar(&now))
                    } else {
                        writeln!(stderr(), "{}", line(&now))
                    };
                }
            }
            if terminal {
                let _ = write!(stderr(), "\r\x1b[K");
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn bar(now: &Now) -> String {
    let filled = BAR_CELLS * now.done.min(now.total) as usize / (now.total as usize).max(1);
    format!("{:<8} [{}{}] {}", now.phase, "#".repeat(filled), "-".repeat(BAR_CELLS - filled), figures(now))
}

fn line(now: &Now) -> String {
    format!("{}: {}", now.phase, figures(now))
}

/// `1234 of 4000, 812 per second, 3.4 s left`
fn figures(now: &Now) -> String {
    let count = format!("{} of {}", now.done, now.total);
    let rate = f64::from(now.done) / now.for_.as_secs_f64();
    if now.done == 0 || !rate.is_finite() {
        return count;
    }
    let left = f64::from(now.total.saturating_sub(now.done)) / rate;
    format!("{count}, {rate:.0} per second, {left:.1} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(done: u32, seconds: u64) -> Now {
        Now { phase: "make", done, total: 4_000, for_: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_line_gives_count_rate_and_time_left() {
        assert_eq!(line(&now(1_000, 2)), "make: 1000 of 4000, 500 per second, 6.0 s left");
    }

    #[test]
    fn before_the_first_slot_there_is_no_rate_to_tell() {
        assert_eq!(line(&now(0, 2)), "make: 0 of 4000");
        assert_eq!(line(&now(1, 0)), "make: 1 of 4000");
    }

    #[test]
    fn the_bar_fills_from_empty_to_full_and_no_further() {
        assert!(bar(&now(0, 1)).contains(&format!("[{}]", "-".repeat(BAR_CELLS))));
        assert!(bar(&now(4_000, 1)).contains(&format!("[{}]", "#".repeat(BAR_CELLS))));
        assert!(bar(&now(5_000, 1)).contains(&format!("[{}]", "#".repeat(BAR_CELLS))));
    }
}
