//! The one binary: reads the command line and runs the command it names.

#[cfg(feature = "server")]
mod admin_face;
mod clock;
#[cfg(feature = "server")]
mod config_check;
#[cfg(feature = "server")]
mod demo;
mod environment;
mod http;
#[cfg(feature = "server")]
mod init;
#[cfg(feature = "server")]
mod login;
#[cfg(feature = "server")]
mod operator;
mod output;
mod random;
mod runner;
mod secret;
#[cfg(feature = "server")]
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Many small short-lived allocations on several threads: what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use crate::runner::address::ServerArgs;
use crate::runner::delegate::DelegateArgs;
use crate::runner::proof::ProofArgs;
use crate::runner::run::RunArgs;
use crate::runner::token::TokenArgs;

/// An identity for one task, and nothing after it.
#[derive(Debug, Parser)]
#[command(name = "dayfly", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,
    /// Whether the server stands on the command line, not in the environment.
    #[cfg(feature = "server")]
    #[arg(skip)]
    named: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a command as one task: proves what this job is, opens the task, beats, ends it
    Run(Box<RunArgs>),
    /// Prints a fresh token of the surrounding run
    Token(TokenArgs),
    /// Runs a command as a helper of the surrounding run, with a part of its access
    Delegate(Box<DelegateArgs>),
    /// Prints the claims that the platform gives this job, never the token
    Proof(ProofArgs),
    /// Runs the server
    #[cfg(feature = "server")]
    Serve(serve::ServeArgs),
    /// The server's configuration
    #[cfg(feature = "server")]
    #[command(subcommand)]
    Config(config_check::ConfigCommand),
    /// Writes a commented configuration with one tenant, never over anything
    #[cfg(feature = "server")]
    Init(init::InitArgs),
    /// Shows in under a minute what tasks are for, with a server, an issuer and services of its own
    #[cfg(feature = "server")]
    Demo(demo::DemoArgs),
    /// Logs in to a server as an operator, by the provider that it names
    #[cfg(feature = "server")]
    Login,
    /// Forgets the login to a server
    #[cfg(feature = "server")]
    Logout,
    #[cfg(feature = "server")]
    #[command(flatten)]
    Operator(operator::OperatorCommand),
}

fn main() -> ExitCode {
    match Cli::of(std::env::args_os()) {
        Ok(cli) => {
            #[cfg(feature = "server")]
            let at = operator::place::At {
                server: cli.server.server.as_deref(),
                named: cli.named,
                tenant: cli.server.tenant.as_deref(),
            };
            match cli.command {
                Command::Run(args) => runner::run::main(*args, cli.server),
                Command::Token(args) => runner::token::main(args),
                Command::Delegate(args) => runner::delegate::main(*args, cli.server),
                Command::Proof(args) => runner::proof::main(args, cli.server),
                #[cfg(feature = "server")]
                Command::Serve(args) => serve::main(&args),
                #[cfg(feature = "server")]
                Command::Config(command) => config_check::main(&command),
                #[cfg(feature = "server")]
                Command::Init(args) => init::main(&args),
                #[cfg(feature = "server")]
                Command::Demo(args) => demo::main(&args),
                #[cfg(feature = "server")]
                Command::Login => login::login(at),
                #[cfg(feature = "server")]
                Command::Logout => login::logout(at),
                #[cfg(feature = "server")]
                Command::Operator(command) => operator::main(command, at),
            }
        }
        Err(error) => misused(&error),
    }
}

impl Cli {
    /// Reads a command line; an option on it that its command would not heed is wrong use.
    fn of(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(words)?;
        let cli = Self::from_arg_matches(&matches)?;
        #[cfg(feature = "server")]
        let cli = Self {
            named: matches.value_source("server") == Some(ValueSource::CommandLine),
            ..cli
        };
        let unheeded = |option, heeds: bool| {
            !heeds && matches.value_source(option) == Some(ValueSource::CommandLine)
        };
        let why = if unheeded("server", cli.command.heeds_server()) {
            "--server means nothing to this command: inside a run, token asks the run, and what reads files or a database reads the configuration: --config FILE"
        } else if unheeded("tenant", cli.command.heeds_tenant()) {
            "--tenant means nothing to this command"
        } else {
            return Ok(cli);
        };
        Err(Self::command().error(ErrorKind::ArgumentConflict, why))
    }
}

impl Command {
    fn heeds_server(&self) -> bool {
        match self {
            Self::Run(_) | Self::Delegate(_) | Self::Proof(_) => true,
            Self::Token(_) => false,
            #[cfg(feature = "server")]
            Self::Serve(_) | Self::Config(_) | Self::Init(_) | Self::Demo(_) => false,
            #[cfg(feature = "server")]
            Self::Login | Self::Logout => true,
            #[cfg(feature = "server")]
            Self::Operator(command) => command.asks_a_server(),
        }
    }

    fn heeds_tenant(&self) -> bool {
        match self {
            Self::Run(_) | Self::Delegate(_) | Self::Proof(_) => true,
            Self::Token(_) => false,
            #[cfg(feature = "server")]
            Self::Serve(_)
            | Self::Config(_)
            | Self::Init(_)
            | Self::Demo(_)
            | Self::Login
            | Self::Logout => false,
            #[cfg(feature = "server")]
            Self::Operator(command) => !matches!(
                command,
                operator::OperatorCommand::Verify(_) | operator::OperatorCommand::Backup(_)
            ),
        }
    }
}

/// `run` and `delegate` answer with the command's own exit code, so wrong use of it must not look like one.
fn misused(error: &clap::Error) -> ExitCode {
    let _closed = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os()
        .skip(1)
        .any(|word| word == "run" || word == "delegate")
    {
        return output::FAILED.into();
    }
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::of(line.split(' ').map(Into::into))
    }

    #[test]
    fn options_that_a_command_heeds_stand_before_or_after_it() {
        for line in [
            "dayfly run --server https://x.example --tenant a -- true",
            "dayfly --server https://x.example --tenant a run -- true",
            "dayfly proof --server https://x.example/a",
        ] {
            let cli = read(line).unwrap();
            assert!(cli.server.server.is_some(), "{line}");
        }
        assert!(read("dayfly token").is_ok());
    }

    #[test]
    fn an_option_that_would_do_nothing_is_refused() {
        let lines = ["dayfly token --server x", "dayfly --tenant a token"];
        for line in lines {
            assert_eq!(read(line).unwrap_err().kind(), ErrorKind::ArgumentConflict);
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn what_reads_files_names_no_server_and_offline_commands_no_tenant() {
        for line in [
            "dayfly task list --tenant a",
            "dayfly ledger fsck --tenant a",
            "dayfly task list --server https://x.example",
            "dayfly --server https://x.example trace y",
            "dayfly keys list --server https://x.example",
            "dayfly login --server https://x.example",
        ] {
            assert!(read(line).is_ok(), "{line}");
        }
        for line in [
            "dayfly ledger fsck --server x",
            "dayfly policy check --server x",
            "dayfly backup b.db --server x",
            "dayfly verify r.json --key k --server x",
            "dayfly login --tenant a",
            "dayfly serve --server x",
            "dayfly serve --tenant a",
            "dayfly init x --tenant a",
            "dayfly demo --tenant a",
            "dayfly verify r.json --key k --tenant a",
            "dayfly backup b.db --tenant a",
        ] {
            let kind = read(line).map(|_| ()).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::ArgumentConflict, "{line}");
        }
    }
}
