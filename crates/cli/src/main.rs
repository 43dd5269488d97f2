//! The one binary: reads the command line and runs the command it names.

#[cfg(feature = "server")]
mod admin_socket;
mod clock;
#[cfg(feature = "server")]
mod demo;
mod environment;
mod http;
#[cfg(feature = "server")]
mod init;
#[cfg(feature = "server")]
mod operator;
mod output;
mod random;
mod runner;
mod secret;
#[cfg(feature = "server")]
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Many small short-lived allocations on several threads: what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use crate::runner::address::ServerArgs;
use crate::runner::proof::ProofArgs;
use crate::runner::run::RunArgs;
use crate::runner::token::TokenArgs;

/// An identity for one task, and nothing after it.
#[derive(Debug, Parser)]
#[command(name = "dayfly", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a command as one task: proves what this job is, opens the task, beats, ends it
    Run(Box<RunArgs>),
    /// Prints a fresh token of the surrounding run
    Token(TokenArgs),
    /// Prints the claims that the platform gives this job, never the token
    Proof(ProofArgs),
    /// Runs the server
    #[cfg(feature = "server")]
    Serve(serve::ServeArgs),
    /// Writes a commented configuration with one tenant, never over anything
    #[cfg(feature = "server")]
    Init(init::InitArgs),
    /// Shows in under a minute what tasks are for, with a server, an issuer and services of its own
    #[cfg(feature = "server")]
    Demo(demo::DemoArgs),
    #[cfg(feature = "server")]
    #[command(flatten)]
    Operator(operator::OperatorCommand),
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Run(args) => runner::run::main(*args, cli.server),
            Command::Token(args) => runner::token::main(args),
            Command::Proof(args) => runner::proof::main(args, cli.server),
            #[cfg(feature = "server")]
            Command::Serve(args) => serve::main(&args),
            #[cfg(feature = "server")]
            Command::Init(args) => init::main(&args),
            #[cfg(feature = "server")]
            Command::Demo(args) => demo::main(&args),
            #[cfg(feature = "server")]
            Command::Operator(command) => operator::main(command, cli.server.tenant.as_deref()),
        },
        Err(error) => misused(&error),
    }
}

/// `run` answers with the command's own exit code, so wrong use of it must not look like one.
fn misused(error: &clap::Error) -> ExitCode {
    let _closed = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().skip(1).any(|word| word == "run") {
        return output::FAILED.into();
    }
    ExitCode::from(2)
}
