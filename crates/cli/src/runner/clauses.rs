//! Which clause of which workload a job's claims fail: asked of the server, or read off a folder.

use std::time::Duration;

use crate::http::Clients;
use crate::output::say;
use crate::random;
use crate::runner::address::ServerArgs;
use crate::runner::person::PersonSource;
use crate::runner::proof_source::ProofSource;
use crate::runner::request::{Ask, Binding, Origin};
use crate::runner::server::Server;
use crate::runner::session::{Opening, Session};
use crate::runner::wire::Failure;
use anyhow::Context;

/// Asks the server for a scope that nobody declares: it verifies the proof and matches it, and then
/// refuses, so that nothing is granted and the proof is not spent.
pub(super) async fn asked(
    server: &ServerArgs,
    workload: Option<&str>,
    person: Option<PersonSource>,
) -> Result<(), Failure> {
    let Some(address) = server.address()? else {
        return Ok(());
    };
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let opened = Session::open(Opening {
        server: Server::new(address, clients),
        origin: Origin::Platform(ProofSource::find()?, person),
        ask: Ask {
            workload: workload.map(str::to_owned),
            scope: Some(format!("dayfly-proof-{}", random::name()?)),
            ..Ask::default()
        },
        binding: Binding::key()?,
        resources: std::collections::BTreeMap::new(),
        wait: Duration::ZERO,
    })
    .await;
    match opened {
        Err(Failure::Refused(refusal)) if refusal.rule() == Some("scope_unknown") => {
            say("the server accepts the proof, and it matches a workload; nothing was granted");
            Ok(())
        }
        Err(failure) => Err(failure),
        Ok(_) => Err(anyhow::anyhow!("the server granted a scope that nobody declares").into()),
    }
}

/// How each workload of a configuration's folder reads the claims, a line each.
#[cfg(feature = "server")]
pub(super) fn declared(
    config: &std::path::Path,
    tenant: Option<&str>,
    claims: &serde_json::Map<String, serde_json::Value>,
) -> anyhow::Result<Vec<String>> {
    use anyhow::{anyhow, bail};
    use dayfly_server::config::Config;
    use dayfly_server::declared::{Declared, Source, TenantContext};
    use dayfly_server::verify::preview;

    let config = Config::load(config).map_err(|why| anyhow!("{why}"))?;
    let names = config.tenant_names().map_err(|why| anyhow!("{why}"))?;
    let name = match (tenant, names.as_slice()) {
        (Some(tenant), names) => names
            .iter()
            .find(|name| name.as_str() == tenant)
            .with_context(|| format!("there is no tenant `{tenant}`"))?,
        (None, [only]) => only,
        (None, _) => bail!("--tenant must name one of several tenants"),
    };
    let source =
        Source::read_folder(&config.tenant_folder(name)).map_err(|why| anyhow!("{why}"))?;
    let (declared, _) =
        Declared::load(&source, &TenantContext::new(&config, name)).map_err(|errors| {
            anyhow!(
                "{}",
                errors.first().map(ToString::to_string).unwrap_or_default()
            )
        })?;
    let payload = serde_json::Value::Object(claims.clone()).to_string();
    let previews = preview(&declared, payload.as_bytes())
        .map_err(|refusal| anyhow!("{refusal}: wanted {}, got {}", refusal.wanted, refusal.got))?;
    Ok(previews.iter().map(line).collect())
}

#[cfg(feature = "server")]
fn line(preview: &dayfly_server::verify::Preview) -> String {
    let workload = &preview.workload;
    match (&preview.failure, &preview.unfinished, &preview.task_key) {
        (Some(failure), _, _) => format!(
            "workload {workload}: does not match: {} wanted `{}`, got {}",
            failure.claim,
            failure.wanted,
            failure
                .got
                .as_ref()
                .map_or_else(|| "no such claim".to_owned(), |got| format!("`{got}`"))
        ),
        (None, Some(claim), _) => {
            format!("workload {workload}: unfinished: pin `{claim}` in its match")
        }
        (None, None, Some(refusal)) => format!(
            "workload {workload}: matches, but does not say which run it is: {} ({})",
            refusal.field, refusal.hint
        ),
        (None, None, None) => format!("workload {workload}: matches{}", acts_for(preview)),
    }
}

/// Whose people a workload acts for.
#[cfg(feature = "server")]
fn acts_for(preview: &dayfly_server::verify::Preview) -> String {
    let Some(acts_for) = &preview.acts_for else {
        return String::new();
    };
    let from: Vec<String> = acts_for.from.iter().map(ToString::to_string).collect();
    let must = match acts_for.person {
        dayfly_domain::Needed::Optional => "may act",
        dayfly_domain::Needed::Required => "acts only",
    };
    format!(", and {must} for a person of {}", from.join(" or "))
}
