//! An agent works for a person; the person's session ends at the provider, and with it the agent and all its helpers.

use anyhow::{Context, Result, ensure};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use url::Url;

use super::shared::token_of;
use super::{ASSISTANT, ENDED_ELSEWHERE, Scene, named_in, shown};
use crate::clock;
use crate::demo::people::{PEOPLE, TASKS};
use crate::demo::present::is_active;
use crate::http::{CALL_TIMEOUT, Clients};

/// Who comes in: the agent, a helper, and whom that one handed on to.
const CLIENTS: [&str; 3] = ["assistant", "searcher", "summary"];
const TOKEN_FILE: &str = "person.jwt";

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let [person, _] = PEOPLE;
    let job = stage.issuer.job(ASSISTANT)?;
    stage.write(TOKEN_FILE, &stage.people.id_token(person, TASKS)?, 0o600)?;
    let options = [
        "--workload",
        "assistant",
        "--on-behalf-of",
        TOKEN_FILE,
        "--resource",
        "artifacts",
    ];
    paint.does(&format!(
        "dayfly run {} -- sh assistant.sh &    # {person} logged in before",
        options.join(" ")
    ));
    let alone = stage.run(&job, &["--workload", "assistant"], &["true"])?;
    let alone = alone.end().await?.with_code(126)?;
    scene.why(&alone).await?;
    let mut run = stage.run(&job, &options, &["sh", "assistant.sh"])?;
    let mut task = None;
    for _ in CLIENTS {
        let line = run.until(" is in, as ").await?.text;
        let client = named_in(&line, "client_")?.to_owned();
        task = task.or_else(|| Some(client.split('_').nth(1)?.to_owned()));
        paint.says(&line);
    }
    let task = format!("task_{}", task.context("nobody came in")?);
    ensure!(
        active(scene).await? == CLIENTS.len(),
        "not everybody is at work"
    );
    let before = scene.operate(&["trace", &task], 0).await?;
    paint.says(before.line(person)?.text.trim_start());

    let url = format!("{}/signals/people", stage.tenant_url());
    paint.does(&format!(
        "POST {url}    # the provider: {person}'s session is revoked"
    ));
    ensure!(
        tell(scene, &url, "somebody else's token", person).await? != 202,
        "an event was taken from somebody else"
    );
    ensure!(
        active(scene).await? == CLIENTS.len(),
        "somebody else ended a session"
    );
    let status = tell(scene, &url, stage.people.events_secret(), person).await?;
    ensure!(status == 202, "the event was answered with {status}");
    let told = clock::instant();
    ensure!(active(scene).await? == 0, "a token outlives the session");
    paint.says(&format!(
        "202; artifacts asks about each one's token: {} over, {} later",
        CLIENTS.join(", "),
        shown(clock::instant() - told)
    ));
    run.end().await?.with_code(ENDED_ELSEWHERE)?;
    let trace = scene.operate(&["trace", &task], 0).await?.out();
    let verdict = trace.lines().next().unwrap_or_default();
    ensure!(
        verdict.starts_with("GONE") && verdict.contains("(upstream"),
        "the task is not gone by the provider's word: {verdict}"
    );
    paint.says(verdict);
    paint.shows(&format!(
        "without {person} it may not start, for {person} it gets nothing more, and it is over with {person}'s session"
    ));
    Ok(())
}

/// Sends the event; gives the status of the answer.
async fn tell(scene: Scene<'_>, url: &str, bearer: &str, person: &str) -> Result<u16> {
    let stage = scene.stage;
    let event = stage.people.session_revoked(person, &stage.tenant_url())?;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let url = Url::parse(url)?;
    let answer = clients
        .of(&url)
        .post(url)
        .header(CONTENT_TYPE, "application/secevent+jwt")
        .header(AUTHORIZATION, format!("Bearer {bearer}"))
        .body(event)
        .timeout(CALL_TIMEOUT)
        .send()
        .await?;
    Ok(answer.status().as_u16())
}

/// Of how many the server calls the token active when `artifacts` asks.
async fn active(scene: Scene<'_>) -> Result<usize> {
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let mut active = 0;
    for name in CLIENTS {
        active += usize::from(is_active(scene.stage, &clients, &token_of(scene, name)?).await?);
    }
    Ok(active)
}
