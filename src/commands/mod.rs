//! From a parsed command line to an exit code: one file per command, and what all of them share; no command's own work.

mod bind;
mod check;
mod compile_rules;
mod config;
mod daemon;
mod datapath_view;
mod destroy;
mod exec;
mod lease;
mod list;
pub mod output;
mod pool;
mod progress;
mod release;
mod rules;
mod serve;
mod show;
mod signals;
mod status;
mod trace;
mod unbind;
mod up;
mod verify;
mod view;
mod vmm;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

pub use crate::cli::Exit;
use crate::cli::{Cli, Command, GlobalArgs, UsageError};
use crate::config::Config;
use crate::config::load::{self, LoadError};
use crate::config::parse::{Loaded, Overrides};
use crate::logger;
use crate::sys::fault;
use output::Output;

/// Why a command did not do what it was asked: a text for people and a code for scripts.
///
/// Each module's error enum becomes one through a `From` next to the command that first needs it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: Option<String>,
}

impl Failure {
    /// A failure of that kind, told as the error and each of its sources, colons between; a source that its error has
    /// told already is not told again.
    #[must_use]
    pub fn new(exit: Exit, error: impl Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        Self { exit, message: Some(message) }
    }

    /// A failure of that kind in these words.
    #[must_use]
    pub fn because(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()) }
    }

    /// An end that needs no words.
    #[must_use]
    pub const fn silent(exit: Exit) -> Self {
        Self { exit, message: None }
    }

    /// What the command ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// What people are told, if anything.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(Exit::Config, error)
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// What every command may ask for: the configuration and the socket, as the global options change them.
#[derive(Clone, Debug)]
pub struct Context {
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
}

impl Context {
    fn new(global: &GlobalArgs) -> Self {
        // A path that cannot be made absolute stays as it is, and is refused with the configuration.
        let socket = global.socket.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        Self { config: global.config.clone(), socket }
    }

    /// The effective configuration, read anew.
    ///
    /// # Errors
    /// What is wrong with it, with [`Exit::Config`].
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(self.loaded(None)?.config)
    }

    /// The effective configuration with the origin of each value; `slots` is what `--slots` says.
    ///
    /// # Errors
    /// What is wrong with it, with [`Exit::Config`].
    pub fn loaded(&self, slots: Option<u32>) -> Result<Loaded, Failure> {
        Ok(load::load(self.config.as_deref(), &Overrides { slots, socket: self.socket.clone() })?)
    }

    /// The daemon's socket: `--socket`, else the configuration's, which is then all that is read of it.
    ///
    /// # Errors
    /// What is wrong with the configuration, with [`Exit::Config`].
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(self.config()?.socket),
        }
    }
}

/// Parses the command line, runs the command, and tells on stderr what went wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no failure; a reader that has gone does not matter to either.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Ok.into() } else { Exit::Usage.into() };
        }
    };
    logger::start(logger::level(cli.global.verbose, cli.global.quiet), cli.global.kmsg);
    let mut out = Output::stdout(cli.global.json);
    let done = with_fault(|| run(&cli, &mut out).and_then(|exit| Ok(out.flush().map(|()| exit)?)));
    let exit = done.unwrap_or_else(|failure| {
        if let Some(message) = failure.message() {
            log::error!("{message}");
        }
        failure.exit()
    });
    exit.into()
}

/// Runs the command under `NETSLOT_FAULT`, where that is set; says how far it was from being killed.
fn with_fault(command: impl FnOnce() -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    let Some(deadly) = fault::arm().map_err(|error| Failure::new(Exit::Usage, error))? else { return command() };
    log::warn!("{} is set: this process is killed after its change number {deadly}", fault::VARIABLE);
    let done = command();
    log::warn!("{}: {} changes made", fault::VARIABLE, deadly - fault::left().unwrap_or(deadly));
    done
}

fn run(cli: &Cli, out: &mut Output) -> Result<Exit, Failure> {
    let context = Context::new(&cli.global);
    match &cli.command {
        Command::Up(args) => up::run(args, &context, out),
        Command::Serve(args) => serve::run(args, &context),
        Command::Lease(args) => lease::run(args, &context, out),
        Command::Bind(args) => bind::run(args, &context, out),
        Command::Unbind(args) => unbind::run(args, &context, out),
        Command::Release(args) => release::run(args, &context, out),
        Command::Exec(args) => exec::run(args, &context),
        Command::List(args) => list::run(args, &context, out),
        Command::Show(args) => show::run(args, &context, out),
        Command::Trace(args) => trace::run(args, &context, out),
        Command::Status => status::run(&context, out),
        Command::Check(args) => check::run(args, &context, out),
        Command::Config(args) => config::run(args, &context, out),
        Command::CompileRules(args) => compile_rules::run(args, &context, out),
        Command::Rules(args) => rules::run(args, &context, out),
        Command::Verify(args) => verify::run(args, &context, out),
        Command::Destroy(args) => destroy::run(args, &context, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open /dev/net/tun")]
    struct Open(#[source] std::io::Error);

    #[test]
    fn a_failure_tells_the_whole_chain() {
        let failure = Failure::new(Exit::Host, Open(std::io::Error::from_raw_os_error(13)));
        assert_eq!(failure.message(), Some("open /dev/net/tun: Permission denied (os error 13)"));
        assert_eq!(failure.exit(), Exit::Host);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("bind /run/x: {0}")]
    struct Told(#[source] std::io::Error);

    #[test]
    fn a_source_that_its_error_tells_is_told_once() {
        let failure = Failure::new(Exit::Failed, Told(std::io::Error::from_raw_os_error(98)));
        assert_eq!(failure.message(), Some("bind /run/x: Address already in use (os error 98)"));
    }

    #[test]
    fn the_socket_option_needs_no_configuration() {
        let context = Context { config: Some("/nonexistent".into()), socket: Some("/tmp/s".into()) };
        assert_eq!(context.socket().expect("given"), PathBuf::from("/tmp/s"));
        let context = Context { socket: None, ..context };
        assert_eq!(context.socket().expect_err("a missing file").exit(), Exit::Config);
    }
}
