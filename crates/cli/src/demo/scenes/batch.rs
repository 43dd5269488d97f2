//! A batch job reads a queue and writes one result set, within its two details and for no longer than its task.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{REPORTS, Scene, shown};
use crate::clock;
use crate::demo::present::Signed;
use crate::demo::stage::OFFLINE_SECONDS;
use crate::http::Clients;

/// How often it is looked whether the second has come in which the token expires.
const LOOK: Duration = Duration::from_millis(10);

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let results = stage.services.results.url();
    let job = stage.issuer.job(REPORTS)?;
    let options = [
        "--workload",
        "nightly",
        "--proxy",
        "queue",
        "--proxy",
        "results",
    ];
    paint.does(&format!(
        "dayfly run --workload nightly --proxy queue --proxy results -- sh nightly.sh {results}"
    ));
    let mut run = stage.run(&job, &options, &["sh", "nightly.sh", results])?;
    let total = run.until("total ").await?.text;
    let stored = run.until("stored ").await?.text;
    let denied = run.until("queue: ").await?.text;
    run.until("answered 403").await?;
    let ended = run.until(" ended ").await?;
    let object = stage.services.results.object("daily/today");
    ensure!(
        object.as_deref() == Some(b"84") && total == "total 84",
        "the result set does not hold the sum"
    );
    paint.says(&format!(
        "GET orders: {total}; PUT daily/today: 201 from results: {stored}"
    ));
    paint.says(&format!("GET payroll: 403 from {denied}"));
    let ended = Ended {
        at: ended.at,
        second: clock::now_seconds(),
    };
    wait_for_the_bound(scene, results, ended).await?;
    run.end().await?.with_code(0)?;
    Ok(())
}

/// When the job's end was heard, on the clock that nobody sets and on the wall's.
#[derive(Clone, Copy)]
struct Ended {
    at: Instant,
    second: u64,
}

/// What an offline check cannot know: it accepts the token of an ended task until it expires, and no longer.
async fn wait_for_the_bound(scene: Scene<'_>, url: &str, ended: Ended) -> Result<()> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let late = Signed::read(&stage.path("late.json"))?;
    let answer = late
        .send(&clients, Method::PUT, &format!("{url}/daily/late"))
        .await?;
    let after = clock::instant() - ended.at;
    let expired = clock::now_seconds() >= late.expires()?;
    ensure!(
        answer.status == 201 || expired,
        "results refused a token that it cannot know to be over: {}",
        answer.text
    );
    paint.says(&format!(
        "{} from results, {} after the end, of which an offline check cannot know",
        answer.status,
        shown(after)
    ));
    let later = Signed::read(&stage.path("later.json"))?;
    let expires = later.expires()?;
    paint.busy("waiting for the published bound");
    while clock::now_seconds() < expires {
        sleep(LOOK).await;
    }
    let over = clock::instant() - ended.at;
    let answer = later
        .send(&clients, Method::PUT, &format!("{url}/daily/later"))
        .await?;
    ensure!(
        answer.status == 401,
        "results accepted an expired token: {}",
        answer.text
    );
    ensure!(
        expires <= ended.second + OFFLINE_SECONDS,
        "the bound of {OFFLINE_SECONDS} s does not hold"
    );
    paint.says(&format!(
        "401 from {}, {} after the end",
        answer.text,
        shown(over)
    ));
    paint.shows(&format!(
        "two details and no more; where a check is offline, the end counts within the {OFFLINE_SECONDS} s named above"
    ));
    Ok(())
}
