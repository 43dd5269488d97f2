//! Row: a resource asks about a use, by token and DPoP proof; each decision is recorded before it is given.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::failure::Failure;
use super::issuance::{Issued, credential};
use super::load::{self, Load};
use super::machine::Meter;
use super::mill::in_parallel;
use super::report::{Direction, Line, Report};
use super::world::{RESOURCE, RESOURCE_URL, SECRET, TENANT};
use super::{Bench, clock};

const CONNECTIONS: usize = 64;
/// The floor: decisions a second.
const RATE: f64 = 8_000.0;
/// What is read.
const IDENTIFIER: &str = "octo-repo/app";
/// Most decisions of one go: their proofs must be fresh when the last of them is shown.
const MOST: usize = 40_000;

/// Measures the row: twice about the same tokens, for a token is used again and again.
pub(super) fn run(bench: &Bench<'_>, issued: &Issued, report: &mut Report) -> Result<(), Failure> {
    let many = issued.tokens.len().min(MOST);
    for what in ["first use", "used again"] {
        let requests = requests(issued, many, what)?;
        let load = Load {
            address: issued.server.world.address,
            requests: Arc::new(requests),
            holds: "\"decision\":true",
            keeps: false,
        };
        let before = issued.server.ledger_size()?;
        let meter = Meter::start(issued.server.pid())?;
        let fired = load.fire(CONNECTIONS)?;
        let usage = meter.stop()?;
        fired.demand_good("decision")?;
        let recorded = issued.server.ledger_size()? - before;
        if recorded != fired.good() as u64 {
            return Err(Failure::new(format!(
                "{} decisions were given and {recorded} recorded",
                fired.good()
            )));
        }
        let done = fired.good() as f64;
        let cpu = usage.process * 1e6 / done;
        let primitives = bench.primitives.at_pace(usage.pace);
        report.row(
            Line::new(
                &format!("decision with DPoP, recorded, {what}"),
                format!("{:.0}/s", fired.rate()),
            )
            .floor(
                format!("{RATE:.0}/s"),
                fired.rate() / RATE,
                Direction::AtLeast,
            )
            .latency(&fired)
            .scaled(fired.rate() / RATE, primitives.slowness())
            .cpu(cpu, primitives.decision())
            .note(format!(
                "{done:.0} decisions, {CONNECTIONS} connections; of the server's CPU the writer's thread took {:.1} µs each",
                usage.writer * 1e6 / done
            ))
            .shared(&fired, usage),
        );
    }
    Ok(())
}

fn requests(issued: &Issued, many: usize, round: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let secret = STANDARD.encode(format!("{RESOURCE}:{SECRET}"));
    let headers = format!("authorization: Basic {secret}\r\n");
    let url = format!("{RESOURCE_URL}/{IDENTIFIER}");
    let iat = clock::now().seconds();
    in_parallel(0..many as u64, |at| {
        let index = usize::try_from(at).unwrap_or(usize::MAX);
        let of = issued.tokens.get(index).zip(issued.jobs.get(index));
        let (token, job) = of.ok_or_else(|| Failure::new("a token is missing"))?;
        let jti = format!("{}-{at:x}", round.len());
        let proof = issued
            .callers
            .proof_with(*job, ("GET", &url), (&jti, iat), token)?;
        let body = json!({
            "subject": {
                "type": "credential",
                "id": credential(token)?.to_string(),
                "properties": { "token": token, "dpop": proof, "method": "GET", "url": url },
            },
            "action": { "name": "read" },
            "resource": { "type": "artifact", "id": IDENTIFIER },
        });
        let path = format!("/{TENANT}/access/v1/evaluation");
        Ok(load::post_as(
            "application/json",
            &path,
            &headers,
            &body.to_string(),
        ))
    })
}
