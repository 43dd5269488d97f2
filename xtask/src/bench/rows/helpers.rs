//! Delegation: exchanges a second, what a delegated client takes in memory, and the end of a subtree.

use std::cell::Cell;
use std::sync::Arc;

use serde_json::Value;

use super::Bench;
use super::clock::{self, Watch};
use super::ends::look_at;
use super::failure::{Context, Failure};
use super::load::{Fired, Load};
use super::machine::Meter;
use super::mill::{Callers, Platform, in_parallel};
use super::report::{Direction, Line, Report};
use super::server::Server;
use super::world::{TENANT, World};

/// What each workload declares for this row: as much as a server allows.
const DELEGATION: &str = "delegation = { depth = 4, clients = 255, to = [\"self\"] }\n";
/// How many keys there are; those of the first half are of clients that come in by a proof.
const KEYS: u64 = 4_096;
const CONNECTIONS: usize = 64;
/// How many helpers each parent gets.
const HELPERS: u64 = 16;
/// The milliseconds that an end may take.
const END: f64 = 10.0;
/// The clients of a subtree, by level: below a root 1, below that 5, and so on. With the root they
/// are the 256 that a task may have.
const LEVELS: [usize; 4] = [1, 5, 25, 224];
/// How many subtrees end.
const SUBTREES: u64 = 3;

/// A client: its id, by which job's key it is bound, and its first token.
#[derive(Clone)]
struct Client {
    id: String,
    key: u64,
    token: String,
}

/// What every part of the row works with.
struct Field<'a> {
    server: &'a Server,
    callers: &'a Callers,
    platform: &'a Platform,
    issuer: &'a str,
    /// How many were handed something so far: no two of a task have one key.
    helpers: Cell<u64>,
}

/// Measures the rows.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
    let platform = Platform::new()?;
    let callers = Callers::new(KEYS)?;
    let folder = bench.folder.join("delegation");
    let world = World::write_with(folder, &platform, 1, DELEGATION)?;
    let issuer = world.issuer();
    let server = Server::start(bench.binary, world)?;
    let field = Field {
        server: &server,
        callers: &callers,
        platform: &platform,
        issuer: &issuer,
        helpers: Cell::new(0),
    };
    let parents = field.grants(0, bench.options.parents())?;
    exchanges(&field, &parents, report)?;
    subtrees(&field, bench.options.parents(), report)?;
    server.stop()?.remove()
}

fn exchanges(field: &Field<'_>, parents: &[Client], report: &mut Report) -> Result<(), Failure> {
    let before = field.server.memory_at_rest()?;
    let of_each = parents
        .iter()
        .flat_map(|parent| (0..HELPERS).map(move |_| parent));
    let (load, _) = field.handed_over(of_each)?;
    let meter = Meter::start(field.server.pid())?;
    let fired = load.fire(CONNECTIONS)?;
    let usage = meter.stop()?;
    fired.demand_good("exchange")?;
    let after = field.server.memory_at_rest()?;
    let done = fired.good() as f64;
    report.row(
        Line::new("exchange of a hand-over", format!("{:.0}/s", fired.rate()))
            .latency(&fired)
            .note(format!(
                "{done:.0} helpers of {} parents, {CONNECTIONS} connections; {:.0} µs of the server's CPU each, of them {:.1} in the writer's thread",
                parents.len(),
                usage.process * 1e6 / done,
                usage.writer * 1e6 / done,
            ))
            .shared(&fired, usage),
    );
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / done;
    report.row(
        Line::new(
            "memory a delegated client",
            format!("{:.0} B", each(after.resident, before.resident)),
        )
        .note(format!(
            "resident, as the difference before and after {done:.0} exchanges, caches of the database included; anonymous {:.0} B",
            each(after.anonymous, before.anonymous)
        )),
    );
    Ok(())
}

fn subtrees(field: &Field<'_>, first: u64, report: &mut Report) -> Result<(), Failure> {
    let mut slowest = 0.0_f64;
    for root in field.grants(first, SUBTREES)? {
        let mut level = vec![root.clone()];
        let (mut top, mut below) = (None, Vec::new());
        for many in LEVELS {
            // Each of a level gets its share of the next, one after the other: a task takes one
            // change at a time.
            let (load, keys) = field.handed_over(level.iter().cycle().take(many))?;
            let fired = load.fire(1)?;
            fired.demand_good("exchange")?;
            level = clients(&fired, &keys)?;
            top = top.or_else(|| level.first().cloned());
            below.extend(level.iter().map(|client| client.token.clone()));
        }
        let top = top.context("nobody was handed anything")?;
        look_at(field.server, &below, "\"active\":true")?;
        let path = format!("/admin/{TENANT}/clients/{}/end", top.id);
        let watch = Watch::start();
        let (status, body) = field
            .server
            .admin("POST", &path, r#"{"reason":"measured"}"#)?;
        slowest = slowest.max(watch.elapsed().as_secs_f64() * 1e3);
        if status != 200 {
            return Err(Failure::new(format!("{path} was answered {status} {body}")));
        }
        look_at(field.server, &below, "\"active\":false")?;
        look_at(field.server, &[root.token], "\"active\":true")?;
    }
    let many: usize = LEVELS.iter().sum();
    report.row(
        Line::new(
            &format!("end of a subtree of {many} clients at depth {}", LEVELS.len()),
            format!("{slowest:.1} ms"),
        )
        .floor(format!("{END} ms"), slowest / END, Direction::AtMost)
        .note(format!(
            "the slowest of {SUBTREES}; each token of it was refused right after it, and its root's was good"
        )),
    );
    Ok(())
}

impl Field<'_> {
    /// Opens a task for each of these jobs; gives their root clients.
    fn grants(&self, first: u64, many: u64) -> Result<Vec<Client>, Failure> {
        let tokens = self.platform.tokens(self.issuer, first..first + many)?;
        let load = Load {
            address: self.server.world.address,
            requests: Arc::new(self.callers.requests(self.issuer, first, &tokens)?),
            holds: "\"access_token\":\"",
            keeps: true,
        };
        let fired = load.fire(CONNECTIONS.min(tokens.len()))?;
        fired.demand_good("grants before the exchanges")?;
        let keys: Vec<u64> = (first..first + many).collect();
        clients(&fired, &keys)
    }

    /// Requests by which each of these hands over to a helper, and whose keys the helpers have.
    fn handed_over<'c>(
        &self,
        parents: impl Iterator<Item = &'c Client>,
    ) -> Result<(Load, Vec<u64>), Failure> {
        let parents: Vec<&Client> = parents.collect();
        let iat = clock::now().seconds();
        let first = self.helpers.get();
        let many = parents.len() as u64;
        self.helpers.set(first + many);
        let half = KEYS / 2;
        let keys: Vec<u64> = (first..first + many).map(|n| half + n % half).collect();
        let (callers, issuer) = (self.callers, self.issuer);
        let requests = in_parallel(0..many, |helper| {
            let at = usize::try_from(helper).ok();
            let found = at.and_then(|at| parents.get(at).zip(keys.get(at)));
            let (parent, key) = found.context("a parent is missing")?;
            callers.exchange(issuer, (parent.key, &parent.id), *key, iat)
        })?;
        let load = Load {
            address: self.server.world.address,
            requests: Arc::new(requests),
            holds: "\"access_token\":\"",
            keeps: true,
        };
        Ok((load, keys))
    }
}

/// The clients of answers, and whose keys they have.
fn clients(fired: &Fired, keys: &[u64]) -> Result<Vec<Client>, Failure> {
    let client = |(at, body): &(usize, Vec<u8>)| {
        let answer: Value = serde_json::from_slice(body).context("an answer that is no JSON")?;
        let text = |name: &str| {
            let found = answer.get(name).and_then(Value::as_str);
            found
                .map(str::to_owned)
                .context("an answer without a client")
        };
        Ok(Client {
            id: text("client_id")?,
            key: *keys.get(*at).context("an answer to nobody")?,
            token: text("access_token")?,
        })
    };
    fired.bodies.iter().map(client).collect()
}
