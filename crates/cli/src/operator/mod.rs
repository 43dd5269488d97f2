//! The operator's side: reads the record of a server or of its database, and changes what runs.

mod approve;
mod backup;
mod bundles;
mod change;
mod contain;
mod database;
mod ends;
mod erase;
mod export;
mod findings;
mod keys;
mod ledger;
mod list;
pub(crate) mod place;
mod policy;
mod reach;
mod receipt;
mod record;
pub(crate) mod restore;
mod review;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod tree;
mod verify;
mod when;
mod why;

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use crate::output::say;
use place::At;

/// The commands of an operator.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Makes the declared folder the declared state, and prints the difference
    Apply(change::ApplyArgs),
    /// Tasks: what runs and what ran
    #[command(subcommand)]
    Task(TaskCommand),
    /// Who had access, and is it gone? The verdict first, then tasks and what happened
    Trace(trace::TraceArgs),
    /// Which workloads may reach a resource, and which tasks and clients now can
    Reach(reach::ReachArgs),
    /// The whole explanation of a refusal
    Why(why::WhyArgs),
    /// What a person should look at, and what to do about it
    Findings(findings::FindingsArgs),
    /// What the workloads of an owner may have, what they were granted, and that somebody looked
    Review(review::ReviewArgs),
    /// All entries of a task with their proofs, for anyone to verify offline
    Receipt(receipt::ReceiptArgs),
    /// Verifies a receipt, offline. Exits with 0 when it holds, 1 when it does not, 2 on wrong use
    Verify(verify::VerifyArgs),
    /// The ledger as a whole
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Writes a consistent copy of the database, of all tenants, while the server runs or not
    Backup(backup::BackupArgs),
    /// Puts a backup into the place of the database, while no server runs
    Restore(restore::RestoreArgs),
    /// The keys that sign
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// What may not start again
    #[command(subcommand)]
    Block(BlockCommand),
    /// Lifts a block
    Unblock(change::UnblockArgs),
    /// Clients: one identity in a task each
    #[command(subcommand)]
    Client(ClientCommand),
    /// Instances: jobs, pods and processes, each in any number of tasks
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Issuers: whose proofs count
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// The tenant as a whole
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Owners: who answers for workloads, and may be offboarded
    #[command(subcommand)]
    Owner(OwnerCommand),
    /// Workloads: what may run, and may be disabled
    #[command(subcommand)]
    Workload(WorkloadCommand),
    /// Stops the whole tenant at once: every open task is over, and nothing starts
    Freeze(contain::HowArgs),
    /// Lets a frozen tenant start tasks again; what ended stays ended
    Unfreeze(contain::WhyArgs),
}

/// What is done with clients.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Ends one and what was delegated from it
    End(ends::ClientEndArgs),
}

/// What is done with instances.
#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Ends every client of one, whatever tasks they are in
    End(ends::InstanceEndArgs),
}

/// What is done with issuers.
#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// Ends every open task that one vouched for
    End(ends::NamedEndArgs),
}

/// What is done with the tenant as a whole.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Ends every open task; with --block it is frozen
    End(ends::EndArgs),
}

/// What is done with owners.
#[derive(Debug, Subcommand)]
pub(crate) enum OwnerCommand {
    /// Lists them
    List(list::ListArgs),
    /// Ends every open task of one; with --block it is offboarded
    End(ends::NamedEndArgs),
    /// Stops everything of an owner at once: its open tasks are over, and none starts
    Offboard(contain::OffboardArgs),
    /// Gives an owner its workloads back, and lets them start again; what ended stays ended
    Restore(contain::LiftArgs),
}

/// What is done with workloads.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadCommand {
    /// Lists them
    List(list::ListArgs),
    /// Ends every open task of one; with --block it is disabled
    End(ends::NamedEndArgs),
    /// Stops a workload at once: its open tasks are over, and none starts
    Disable(contain::ContainArgs),
    /// Lets a workload start again; what ended stays ended
    Enable(contain::LiftArgs),
}

/// What is done with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Lists open tasks, or all of them
    List(list::TaskListArgs),
    /// Shows one task with its clients
    Show(show::TaskShowArgs),
    /// Approves a task that waits for it, as a person who is logged in; who asks may not
    Approve(approve::DecideArgs),
    /// Denies a task that waits for an approval, and ends it
    Deny(approve::DecideArgs),
    /// Ends a task; nothing of its series starts again until `dayfly unblock`
    End(change::TaskEndArgs),
}

/// What is done with the ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Checks every entry in the database, and names the first position that differs
    Fsck(ledger::FsckArgs),
    /// Prints the signed head of the ledger
    Head(ledger::HeadArgs),
    /// Checks that the ledger still begins with an earlier head, or that entries in bundles are those
    /// of a signed head. Exits with 0 when it holds, 1 when it does not, 2 when that cannot be told
    Verify(ledger::VerifyArgs),
    /// Writes entries into bundle files, which `ledger verify` checks offline
    Export(export::ExportArgs),
    /// Prints the latest entries
    Tail(ledger::TailArgs),
    /// Erases what the record says of a person; leaves, proofs and receipts go on to hold
    Erase(erase::EraseArgs),
}

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Lists them, each with where it is in its life and its public part
    List(list::ListArgs),
    /// Publishes successors, which sign once every cached key set is over
    Rotate(keys::RotateArgs),
    /// Gives keys up at once: unpublished, and nothing that they signed is accepted any more
    Compromise(keys::CompromiseArgs),
}

/// What is done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Parses and validates policy files, offline. Exits with 0 when they hold and 1 when not
    Check(policy::CheckArgs),
    /// What policies said of a refusal, task or credential, or would say of a request
    Explain(Box<policy::ExplainArgs>),
}

/// What is done with blocks.
#[derive(Debug, Subcommand)]
pub(crate) enum BlockCommand {
    /// Lists them
    List(list::ListArgs),
    /// Blocks a run or an instance, started or not; what is open of it gets nothing further, but for
    /// a series, which only keeps from starting what has not started
    Set(ends::BlockSetArgs),
}

impl OperatorCommand {
    /// Whether it asks the admin face; the others read files or the database.
    pub(crate) fn asks_a_server(&self) -> bool {
        match self {
            Self::Verify(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Ledger(LedgerCommand::Fsck(_))
            | Self::Policy(PolicyCommand::Check(_)) => false,
            Self::Apply(_)
            | Self::Task(_)
            | Self::Trace(_)
            | Self::Reach(_)
            | Self::Why(_)
            | Self::Findings(_)
            | Self::Review(_)
            | Self::Receipt(_)
            | Self::Ledger(
                LedgerCommand::Head(_)
                | LedgerCommand::Verify(_)
                | LedgerCommand::Export(_)
                | LedgerCommand::Tail(_)
                | LedgerCommand::Erase(_),
            )
            | Self::Keys(_)
            | Self::Policy(PolicyCommand::Explain(_))
            | Self::Block(_)
            | Self::Unblock(_)
            | Self::Client(_)
            | Self::Instance(_)
            | Self::Issuer(_)
            | Self::Tenant(_)
            | Self::Owner(_)
            | Self::Workload(_)
            | Self::Freeze(_)
            | Self::Unfreeze(_) => true,
        }
    }
}

/// Runs a command of the operator.
pub(crate) fn main(command: OperatorCommand, at: At<'_>) -> ExitCode {
    match command {
        OperatorCommand::Verify(args) => verify::main(&args),
        OperatorCommand::Ledger(LedgerCommand::Fsck(args)) => ledger::fsck(&args, at),
        OperatorCommand::Backup(args) => block_on(backup::backup(args)),
        OperatorCommand::Restore(args) => block_on(restore::restore(args)),
        OperatorCommand::Apply(args) => block_on(change::apply(&args, at)),
        OperatorCommand::Task(TaskCommand::List(args)) => block_on(list::tasks(&args, at)),
        OperatorCommand::Task(TaskCommand::Show(args)) => block_on(show::task(&args, at)),
        OperatorCommand::Task(TaskCommand::Approve(args)) => block_on(approve::approve(&args, at)),
        OperatorCommand::Task(TaskCommand::Deny(args)) => block_on(approve::deny(&args, at)),
        OperatorCommand::Task(TaskCommand::End(args)) => block_on(change::end(&args, at)),
        OperatorCommand::Trace(args) => block_on(trace::trace(&args, at)),
        OperatorCommand::Reach(args) => block_on(reach::reach(&args, at)),
        OperatorCommand::Why(args) => block_on(why::why(&args, at)),
        OperatorCommand::Findings(args) => block_on(findings::findings(&args, at)),
        OperatorCommand::Review(args) => block_on(review::review(&args, at)),
        OperatorCommand::Receipt(args) => block_on(receipt::receipt(&args, at)),
        OperatorCommand::Ledger(LedgerCommand::Head(args)) => block_on(ledger::head(&args, at)),
        OperatorCommand::Ledger(LedgerCommand::Verify(args)) => block_on(ledger::verify(&args, at)),
        OperatorCommand::Ledger(LedgerCommand::Export(args)) => block_on(export::export(&args, at)),
        OperatorCommand::Ledger(LedgerCommand::Tail(args)) => block_on(ledger::tail(&args, at)),
        OperatorCommand::Ledger(LedgerCommand::Erase(args)) => block_on(erase::erase(&args, at)),
        OperatorCommand::Keys(KeysCommand::List(args)) => block_on(keys::list(&args, at)),
        OperatorCommand::Keys(KeysCommand::Rotate(args)) => block_on(keys::rotate(&args, at)),
        OperatorCommand::Keys(KeysCommand::Compromise(args)) => {
            block_on(keys::compromise(&args, at))
        }
        OperatorCommand::Policy(PolicyCommand::Check(args)) => policy::check(&args, at),
        OperatorCommand::Policy(PolicyCommand::Explain(args)) => {
            block_on(policy::explain(&args, at))
        }
        OperatorCommand::Block(BlockCommand::List(args)) => block_on(list::blocks(&args, at)),
        OperatorCommand::Block(BlockCommand::Set(args)) => block_on(ends::block(&args, at)),
        OperatorCommand::Client(ClientCommand::End(args)) => block_on(ends::client(&args, at)),
        OperatorCommand::Instance(InstanceCommand::End(args)) => {
            block_on(ends::instance(&args, at))
        }
        OperatorCommand::Issuer(IssuerCommand::End(args)) => block_on(ends::issuer(&args, at)),
        OperatorCommand::Tenant(TenantCommand::End(args)) => block_on(ends::tenant(&args, at)),
        OperatorCommand::Unblock(args) => block_on(change::unblock(&args, at)),
        OperatorCommand::Owner(command) => block_on(owner(command, at)),
        OperatorCommand::Workload(command) => block_on(workload(command, at)),
        OperatorCommand::Freeze(args) => block_on(contain::freeze(&args, at)),
        OperatorCommand::Unfreeze(args) => block_on(contain::unfreeze(&args, at)),
    }
}

async fn owner(command: OwnerCommand, at: At<'_>) -> anyhow::Result<ExitCode> {
    match command {
        OwnerCommand::List(args) => contain::owners(&args, at).await,
        OwnerCommand::End(args) => ends::owner(&args, at).await,
        OwnerCommand::Offboard(args) => contain::offboard(&args, at).await,
        OwnerCommand::Restore(args) => contain::restore(&args, at).await,
    }
}

async fn workload(command: WorkloadCommand, at: At<'_>) -> anyhow::Result<ExitCode> {
    match command {
        WorkloadCommand::List(args) => contain::workloads(&args, at).await,
        WorkloadCommand::End(args) => ends::workload(&args, at).await,
        WorkloadCommand::Disable(args) => contain::disable(&args, at).await,
        WorkloadCommand::Enable(args) => contain::enable(&args, at).await,
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(command)) {
        Ok(code) => code,
        Err(why) => failed(&why),
    }
}

/// Says why a command failed.
fn failed(why: &anyhow::Error) -> ExitCode {
    say(dayfly_server::record::one_line(&format!("{why:#}")));
    ExitCode::FAILURE
}

/// Prints a text that ends its own lines.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write the answer")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<ExitCode> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    print(&text)
}

/// Reads a file, or standard input where it is called `-`.
fn read_file(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    if path != std::path::Path::new("-") {
        return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    Ok(bytes)
}
