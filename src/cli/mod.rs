//! The command line: what can be typed and how `--help` explains it; nothing here acts.

mod args;
mod exit;
mod value;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use args::{
    BindArgs, BindOptions, CheckArgs, CompileRulesArgs, ConfigArgs, DestroyArgs, ExecArgs, LeaseArgs, LeaseOptions,
    ListArgs, Policy, ReleaseArgs, RulesArgs, RulesCommand, ServeArgs, ShowArgs, TenantIps, TraceArgs, UnbindArgs,
    UpArgs, UsageError, VerifyArgs, Vmm,
};
pub use exit::Exit;
pub use value::ValueError;

/// Everything that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "netslot",
    version,
    about = "All network slots of a microVM worker made at boot, then leased in microseconds",
    long_about = "\
All network slots of a microVM worker made at boot, then leased in microseconds.

A slot is a network namespace with a tap for the VMM, a bridge that is the guest's gateway, and a veth pair to the \
host. 'netslot up' makes all of them in one pass; 'netslot serve' leases them over a Unix socket; a lease is bound to \
a tenant's network by one write. Slots, leases and packets survive the daemon.",
    after_long_help = Self::after_help(),
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// Read this file and FILE.d/*.toml instead of /etc/netslot/netslot.toml and netslot.toml.d/*.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Talk to (or serve on) this socket instead of the configuration's
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON: one value on stdout, everything else on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell more on stderr; twice for everything (as NETSLOT_LOG=debug and =trace do)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Tell only warnings and errors; twice for errors alone
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub quiet: u8,
    /// Tell it to the kernel's log, for a boot stage that has no other
    #[arg(long, global = true)]
    pub kmsg: bool,
}

/// What netslot can be told to do. What each command is, its arguments say in `about`: a doc comment here would take its
/// place, and the long help's too.
#[derive(Debug, Subcommand)]
pub enum Command {
    Up(UpArgs),
    Serve(ServeArgs),
    Lease(LeaseArgs),
    Bind(BindArgs),
    Unbind(UnbindArgs),
    Release(ReleaseArgs),
    Exec(ExecArgs),
    List(ListArgs),
    Show(ShowArgs),
    Trace(TraceArgs),
    /// Show how the pool and the daemon are
    #[command(after_help = "Examples:\n  netslot status\n  netslot status --json | jq .free")]
    Status,
    Check(CheckArgs),
    Config(ConfigArgs),
    CompileRules(CompileRulesArgs),
    Rules(RulesArgs),
    Verify(VerifyArgs),
    Destroy(DestroyArgs),
}

impl Cli {
    fn after_help() -> String {
        let start = "\
Start here:
  netslot check                      what does this host lack?
  netslot up                         make the slots
  netslot serve &                    lease them
  netslot exec -- ip -brief address  look into one

Files:
  /etc/netslot/netslot.toml          configuration; every key has a default
  /etc/netslot/netslot.toml.d/*.toml read after it in the order of their names; a later file overrides
  /run/netslot/netslot.sock          the daemon's socket
  /run/netns/                        leased slots by name, for 'ip netns exec' and the VMM's jailer

Environment:
  NETSLOT_LOG                        error, warn, info, debug or trace; -v and -q go before it

";
        format!("{start}{}", Exit::help())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("netslot").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_that_parses() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().unwrap_or_else(|| panic!("{name} has no example")).to_string();
            let mut examples = 0;
            for line in help.lines().filter_map(|l| l.trim().strip_prefix("netslot ")) {
                let typed = line.split("  #").next().unwrap_or(line);
                if typed.contains('|') || typed.contains('$') {
                    continue; // a pipeline or a variable: the shell's part
                }
                parse(typed).unwrap_or_else(|e| panic!("{name}: {typed}: {e}"));
                examples += 1;
            }
            assert!(examples > 0, "{name} shows no example that can be typed as it stands");
        }
    }

    #[test]
    fn exec_takes_no_half_binding() {
        assert!(parse("exec -- true").is_ok());
        let whole = "exec --vni 7 --remote 192.0.2.1 --tenant-ip 10.0.0.1 -- true";
        let Ok(Cli { command: Command::Exec(ExecArgs { bind: Some(bind), .. }), .. }) = parse(whole) else {
            panic!("{whole} is a binding");
        };
        assert_eq!((bind.vni, bind.tenant_ips.len()), (7, 1));
        for half in ["--vni 7", "--remote 192.0.2.1", "--tenant-ip 10.0.0.1", "--vni 7 --remote 192.0.2.1"] {
            assert!(parse(&format!("exec {half} -- true")).is_err(), "{half} was taken");
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["--json -v list", "list --json -v"] {
            let cli = parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(cli.global.json && cli.global.verbose == 1, "{line}");
        }
        assert!(parse("-v -q list").is_err());
    }

    #[test]
    fn a_wrong_value_is_answered_with_what_would_be_right() {
        for (line, right) in [
            ("lease --wait 2", "2s, 2ms or 2m"),
            ("release 70000 --generation 1", "0 to 65535"),
            ("bind 1 --generation 1 --vni 16777216 --remote 192.0.2.1 --tenant-ip 10.0.0.1", "1 to 16777215"),
            ("list --state lesed", "building, free, leased"),
            ("lease --count 0", "1 to 65536"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(right), "{line}: {error}");
        }
    }
}
