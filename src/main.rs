//! The `netslot` binary: hands the command line to `commands` and its exit code to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    netslot::commands::main(std::env::args_os())
}
