//! Row 2: introspection of tokens that were really issued, each for the first time and once more.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Bench;
use super::failure::Failure;
use super::issuance::Issued;
use super::load::{self, Load};
use super::machine::Meter;
use super::report::{Direction, Line, Report};
use super::world::{RESOURCE, SECRET, TENANT};

const CONNECTIONS: usize = 64;
/// The floors: answers a second for tokens never seen, and for those seen before.
const COLD: f64 = 15_000.0;
const WARM: f64 = 30_000.0;

/// Measures the row.
pub(super) fn run(bench: &Bench<'_>, issued: &Issued, report: &mut Report) -> Result<(), Failure> {
    let secret = STANDARD.encode(format!("{RESOURCE}:{SECRET}"));
    let headers = format!("authorization: Basic {secret}\r\n");
    let requests: Vec<Vec<u8>> = issued
        .tokens
        .iter()
        .map(|token| {
            load::post(
                &format!("/{TENANT}/introspect"),
                &headers,
                &format!("token={token}"),
            )
        })
        .collect();
    let load = Load {
        address: issued.server.world.address,
        requests: Arc::new(requests),
        holds: "\"active\":true",
        keeps: false,
    };
    for (what, floor, is_cold) in [("cold", COLD, true), ("warm", WARM, false)] {
        let meter = Meter::start(issued.server.pid())?;
        let fired = load.fire(CONNECTIONS)?;
        let usage = meter.stop()?;
        fired.demand_good("introspection")?;
        let cpu = usage.process * 1e6 / fired.good() as f64;
        let primitives = bench.primitives.at_pace(usage.pace);
        report.row(
            Line::new(
                &format!("introspection, {what}"),
                format!("{:.0}/s", fired.rate()),
            )
            .floor(
                format!("{floor:.0}/s"),
                fired.rate() / floor,
                Direction::AtLeast,
            )
            .latency(&fired)
            .scaled(fired.rate() / floor, primitives.slowness())
            .cpu(cpu, primitives.introspection(is_cold))
            .note(format!(
                "{} distinct tokens, {CONNECTIONS} connections",
                fired.good()
            ))
            .shared(&fired, usage),
        );
    }
    Ok(())
}
