//! What is made of a program's command line: completions for shells, and manual pages.

use std::io;
use std::path::PathBuf;

use clap::{Command, Subcommand};
use clap_complete::Shell;

use super::print;

/// Commands that are about the program itself.
#[derive(Debug, Clone, Subcommand)]
pub enum Itself {
    /// Print completions for a shell: bash, elvish, fish, powershell or zsh
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write manual pages into a folder: one for the program, and one for each of its commands
    #[command(hide = true)]
    Man {
        /// An existing folder
        dir: PathBuf,
    },
}

impl Itself {
    /// Does it, for the program with this command line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn run(&self, mut command: Command) -> io::Result<()> {
        match self {
            Self::Completions { shell } => {
                let (name, mut text) = (command.get_name().to_owned(), Vec::new());
                clap_complete::generate(*shell, &mut command, name, &mut text);
                print(&String::from_utf8_lossy(&text))
            }
            Self::Man { dir } => {
                // Programs tell of their version; a page for `help` itself would be one too many.
                let command = command.disable_help_subcommand(true);
                clap_mangen::generate_to(command, dir)
            }
        }
    }
}
