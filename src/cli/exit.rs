//! Exit codes: the part of the command line that scripts read; numbers only, nothing here decides which one applies.

use std::process::ExitCode;

/// How a command ended. The numbers are a promise: a released one never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// The kernel, the daemon or the disk failed; the message says which call.
    Failed,
    /// The command line is wrong (clap's own code).
    Usage,
    /// The configuration is refused; file, line and key are in the message.
    Config,
    /// The host lacks something that a pool needs; `netslot check` lists all of it.
    Host,
    /// No daemon answers on the socket, or this user may not talk to it or make network devices.
    Unreachable,
    /// No slot was free in time.
    Empty,
    /// The daemon or the state of the pool forbids it: stale generation, not the owner, over quota, slots leased.
    Refused,
    /// A slot is not as it was made.
    Differs,
    /// Stopped by SIGINT; the next run goes on.
    Interrupted,
    /// Stopped by SIGTERM; the next run goes on.
    Terminated,
    /// Why `exec` could not become its program: 127 = there is none of that name, 126 = it cannot be run.
    Program(u8),
}

impl Exit {
    /// Code and meaning of each ending that netslot itself chooses, in the order of their codes.
    const TABLE: [(Self, &str); 11] = [
        (Self::Ok, "done"),
        (Self::Failed, "failed; the message names the call and the object"),
        (Self::Usage, "wrong usage"),
        (Self::Config, "the configuration is refused; file, line and key are named"),
        (Self::Host, "the host lacks something that a pool needs (see 'netslot check')"),
        (Self::Unreachable, "no daemon on the socket, or not permitted"),
        (Self::Empty, "no slot was free in time"),
        (Self::Refused, "refused: stale generation, not the owner, over quota, slots still leased"),
        (Self::Differs, "'verify' or 'show --diff' found a slot that is not as it was made"),
        (Self::Interrupted, "stopped by SIGINT; run again to go on"),
        (Self::Terminated, "stopped by SIGTERM; run again to go on"),
    ];

    /// The number that the system gets.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Host => 4,
            Self::Unreachable => 5,
            Self::Empty => 6,
            Self::Refused => 7,
            Self::Differs => 8,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Program(code) => code,
        }
    }

    /// The table as `--help` shows it.
    #[must_use]
    pub fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for (exit, meaning) in Self::TABLE {
            text.push_str(&format!("  {:>3}  {meaning}\n", exit.code()));
        }
        text + "  'exec' ends as its program does; 126 or 127 if that could not be started."
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endings_share_a_code_and_the_help_is_in_their_order() {
        let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| exit.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 143]);
    }
}
