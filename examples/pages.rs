//! Manual pages and shell completions, made of the command line's own help: pages DIRECTORY. Not part of the binary.

use std::error::Error;
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use netslot::cli::Cli;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: pages DIRECTORY")?;
    let dir = Path::new(&dir);
    let mut netslot = Cli::command();
    // So that the pages' names and synopses are those of the whole commands.
    netslot.build();
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    page(&netslot, "netslot", &man)?;
    for (shell, file) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "netslot", &mut text);
        fs::write(dir.join(file), text)?;
    }
    Ok(())
}

/// A command's page, and those of its own commands: netslot(1), netslot-rules(1), netslot-rules-apply(1).
fn page(command: &Command, name: &str, dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut text = Vec::new();
    let called: &'static str = Box::leak(name.to_owned().into_boxed_str());
    clap_mangen::Man::new(command.clone().name(called)).date("").render(&mut text)?;
    fs::write(dir.join(format!("{name}.1")), text)?;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help") {
        page(inner, &format!("{name}-{}", inner.get_name()), dir)?;
    }
    Ok(())
}
