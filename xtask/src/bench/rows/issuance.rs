//! Row 1: issuance by a platform's token and a DPoP proof, recorded and signed.

use std::collections::HashSet;
use std::sync::Arc;

use dayfly_domain::CredentialId;
use dayfly_store::{EntryRange, SqliteOptions, SqliteStore, Store};
use dayfly_token::access_token::{VerifiedAccessToken, hash_of_token};
use dayfly_token::alg::Alg;
use dayfly_token::b64;
use dayfly_token::jwks::KeySet;
use serde_json::Value;

use super::backup::{Backups, Made};
use super::failure::{Context, Failure};
use super::load::{Fired, Load};
use super::machine::{self, Memory, Meter};
use super::mill::{Callers, Platform};
use super::report::{Direction, Line, Report};
use super::server::Server;
use super::world::{TENANT, World};
use super::{Bench, Row};

/// How many keys the callers have between them.
const KEYS: u64 = 4_096;
/// The connections of the first row.
const FEW: usize = 64;
/// Grants before anything is measured.
const WARM: usize = 500;
/// The floors: grants a second, and CPU as a multiple of what cannot be avoided.
const RATE: f64 = 10_000.0;
const EXCESS: f64 = 1.6;
/// Entries of an opening: the task started, the client registered, the credential issued.
const ENTRIES: u64 = 3;
/// Of how many tokens one is looked at closely.
const SAMPLE: usize = 97;

/// A server with open tasks, and the tokens that it issued.
pub(super) struct Issued {
    pub(super) server: Server,
    pub(super) tokens: Vec<String>,
    /// The job of each of them, by which its key is found.
    pub(super) jobs: Vec<u64>,
    pub(super) callers: Callers,
    empty: Memory,
    /// The ledger's size before the first of them, and after the last.
    size_before: u64,
}

/// Measures the row.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<Issued, Failure> {
    let platform = Platform::new()?;
    let callers = Callers::new(KEYS)?;
    let world = World::write(
        bench.folder.join("issuance"),
        &platform,
        bench.options.policies,
    )?;
    let issuer = world.issuer();
    let server = Server::start(bench.binary, world)?;
    let rounds = Round::all(bench);
    let total: usize = rounds.iter().map(|round| round.many).sum();
    eprintln!("bench: signing {total} platform tokens …");
    let platform_tokens = platform.tokens(&issuer, 0..total as u64)?;
    let keys = KeySet::parse(server.get("/jwks")?.as_bytes(), Alg::ALL).context("odd keys")?;

    let mut issued = Issued {
        empty: server.memory_at_rest()?,
        size_before: server.ledger_size()?,
        tokens: Vec::with_capacity(total),
        jobs: Vec::with_capacity(total),
        callers,
        server,
    };
    let mut first = 0;
    let mut alone = 0.0;
    for Round {
        connections,
        many,
        kind,
    } in rounds
    {
        let tokens = platform_tokens.get(first..first + many).unwrap_or_default();
        // Proofs are fresh for seconds only, so they are made right before they are shown.
        let requests = issued.callers.requests(&issuer, first as u64, tokens)?;
        let load = Load {
            address: issued.server.world.address,
            requests: Arc::new(requests),
            holds: "\"access_token\":\"",
            keeps: true,
        };
        let backups = matches!(kind, Kind::BesideBackups)
            .then(|| Backups::start(bench.binary.to_owned(), &issued.server.world));
        let meter = Meter::start(issued.server.pid())?;
        let fired = load.fire(connections)?;
        let usage = meter.stop()?;
        fired.demand_good("issuance")?;
        let what = format!("issuance, {connections} connections");
        match (kind, backups.map(Backups::finish).transpose()?) {
            (Kind::Warm, _) => {}
            (Kind::Alone, _) => {
                if connections == FEW {
                    alone = fired.rate();
                }
                report.row(line(&what, &fired, usage, bench));
            }
            (Kind::BesideBackups, made) => {
                report.row(beside_backups(&what, &fired, alone, made));
            }
        }
        let judge = Judge {
            keys: &keys,
            callers: &issued.callers,
            issuer: &issuer,
        };
        for (job, token) in judge.tokens(first, &fired)? {
            issued.jobs.push(job);
            issued.tokens.push(token);
        }
        first += many;
    }
    check_counts(&issued)?;
    Ok(issued)
}

/// Grants that are asked for in one go.
struct Round {
    connections: usize,
    many: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Before anything is measured.
    Warm,
    Alone,
    BesideBackups,
}

impl Round {
    fn all(bench: &Bench<'_>) -> Vec<Self> {
        let mut rounds = vec![Self {
            connections: 8,
            many: WARM,
            kind: Kind::Warm,
        }];
        let alone = bench.options.grants().into_iter();
        rounds.extend(alone.map(|(connections, many)| Self {
            connections,
            many,
            kind: Kind::Alone,
        }));
        if bench.options.wants(Row::Backup) {
            rounds.push(Self {
                connections: FEW,
                many: bench.options.grants_beside_backups(),
                kind: Kind::BesideBackups,
            });
        }
        rounds
    }
}

fn beside_backups(what: &str, fired: &Fired, alone: f64, made: Option<Made>) -> Line {
    let line = Line::new(
        &format!("{what}, beside backups"),
        format!("{:.0}/s", fired.rate()),
    );
    let line = line.latency(fired).note(format!(
        "{:.2} of the rate without them, which was measured on a smaller database",
        fired.rate() / alone
    ));
    match made {
        None => line,
        Some(made) => line.note(format!(
            "{} backups, one after the other, the last of {:.0} MiB, in {:.1} s, each checked entry by entry",
            made.backups,
            mib(made.size),
            made.seconds
        )),
    }
}

fn line(what: &str, fired: &Fired, usage: machine::Usage, bench: &Bench<'_>) -> Line {
    let done = fired.good() as f64;
    let cpu = usage.process * 1e6 / done;
    let primitives = bench.primitives.at_pace(usage.pace);
    let unavoidable = primitives.issuance();
    Line::new(what, format!("{:.0}/s", fired.rate()))
        .floor(
            format!("{RATE:.0}/s"),
            fired.rate() / RATE,
            Direction::AtLeast,
        )
        .latency(fired)
        .cpu(cpu, unavoidable)
        .excess(cpu / unavoidable, EXCESS)
        .scaled(fired.rate() / RATE, primitives.slowness())
        .note(format!(
            "{done:.0} grants; of the server's CPU the writer's thread took {:.1} µs each",
            usage.writer * 1e6 / done
        ))
        .shared(fired, usage)
}

/// What tokens are judged by.
struct Judge<'a> {
    keys: &'a KeySet,
    callers: &'a Callers,
    issuer: &'a str,
}

impl Judge<'_> {
    /// The tokens of all answers, each with its job; `first` is the job of the first request.
    fn tokens(&self, first: usize, fired: &Fired) -> Result<Vec<(u64, String)>, Failure> {
        let bodies = fired.bodies.iter();
        let judged = bodies.map(|(at, body)| {
            let job = (first + at) as u64;
            Ok((job, self.token(job, body, at % SAMPLE == 0)?))
        });
        judged.collect()
    }

    /// The token of an answer; `closely` verifies its signature and its binding too.
    fn token(&self, job: u64, body: &[u8], closely: bool) -> Result<String, Failure> {
        let answer: Value = serde_json::from_slice(body).context("an answer that is no JSON")?;
        let token = answer.get("access_token").and_then(Value::as_str);
        let token = token.context("an answer without a token")?;
        if closely {
            let verified = VerifiedAccessToken::verify(token, self.keys, Alg::ALL, self.issuer)
                .context("a token does not verify")?;
            if verified.jkt() != Some(self.callers.thumbprint(job)?) {
                return Err(Failure::new(
                    "a token is bound to another key than was shown",
                ));
            }
        }
        Ok(token.to_owned())
    }
}

/// Every answered grant stands in the ledger, and each opened a task of its own.
fn check_counts(issued: &Issued) -> Result<(), Failure> {
    let granted = issued.tokens.len() as u64;
    let entries = issued.server.ledger_size()? - issued.size_before;
    if entries != granted * ENTRIES {
        return Err(Failure::new(format!(
            "{granted} grants were answered and {entries} entries recorded, not {ENTRIES} each"
        )));
    }
    let mut tasks = HashSet::with_capacity(issued.tokens.len());
    for token in &issued.tokens {
        tasks.insert(credential(token)?.client.task);
    }
    if tasks.len() as u64 != granted {
        return Err(Failure::new(format!(
            "{granted} grants opened {} tasks",
            tasks.len()
        )));
    }
    Ok(())
}

/// The id of a token, read off its claims.
pub(super) fn credential(token: &str) -> Result<CredentialId, Failure> {
    let payload = token
        .split('.')
        .nth(1)
        .and_then(|text| b64::decode(text).ok());
    let claims: Value =
        serde_json::from_slice(&payload.unwrap_or_default()).context("a token without claims")?;
    let jti = claims.get("jti").and_then(Value::as_str);
    jti.and_then(|jti| jti.parse().ok())
        .context("a token without an id")
}

/// Stops the server and finds a sample of the tokens in the ledger that it left, each by its hash.
pub(super) fn check_ledger(issued: Issued, report: &mut Report) -> Result<(), Failure> {
    let Issued {
        server,
        tokens,
        empty,
        ..
    } = issued;
    let memory = server.memory_at_rest()?;
    report.note(format!(
        "after {} grants the server held {:.0} MiB resident ({:.0} MiB before), {:.0} anonymous: \
         {:.2} KiB a task, caches of the database and of verified tokens included",
        tokens.len(),
        mib(memory.resident),
        mib(empty.resident),
        mib(memory.anonymous),
        memory.resident.saturating_sub(empty.resident) as f64 / 1024.0 / tokens.len() as f64,
    ));
    let world = server.stop()?;
    let store = SqliteStore::open_read_only(&SqliteOptions::new(world.database()))
        .context("the database cannot be opened")?;
    let tenant = TENANT.parse().context("an odd tenant")?;
    let mut looked_at = 0;
    for token in tokens.iter().step_by(SAMPLE) {
        let task = credential(token)?.client.task;
        let hash = hash_of_token(token).context("an odd token")?;
        let wanted = format!("\"hash\":\"{}\"", b64::encode(hash));
        let entries = store
            .entries(&tenant, EntryRange::Of(task, 1), 16)
            .context("the ledger cannot be read")?;
        if !entries.iter().any(|entry| entry.leaf.contains(&wanted)) {
            return Err(Failure::new(format!(
                "a token of {task} is in no entry of the ledger"
            )));
        }
        looked_at += 1;
    }
    drop(store);
    report.note(format!(
        "every answered grant is in the ledger by count; {looked_at} tokens were verified and found there by their hash"
    ));
    world.remove()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
