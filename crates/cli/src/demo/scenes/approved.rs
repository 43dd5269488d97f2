//! A person asks for a task, and nothing is done before another person has approved it.

use anyhow::{Context, Result, ensure};

use super::{Scene, end_of, named_in, typed};
use crate::demo::people::{PEOPLE, TASKS};
use crate::demo::process::Finished;

const REASON: &str = "the checksum was wrong";
const REPAIRED: &str = "octo-org/app/app-1.0.1.tgz";

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let [asks, approves] = PEOPLE;
    let options = [
        "--workload",
        "repair",
        "--wait-approval",
        "2m",
        "--proxy",
        "artifacts",
    ];
    paint.does(&format!(
        "dayfly run {} -- sh repair.sh &    # {asks}, by an ID token",
        options.join(" ")
    ));
    let token = stage.people.id_token(asks, TASKS)?;
    let mut run = stage.run_as_person(&token, &options, &["sh", "repair.sh"])?;
    let waits = run.until(" waits for an approval").await?.text;
    let task = named_in(&waits, "task_")?;
    paint.says(&waits);
    log_in(scene, asks).await?;
    log_in(scene, approves).await?;

    let approve = ["task", "approve", task, "--reason", REASON];
    let refused = scene.operate(&approve, 1).await?;
    paint.says(&refused.line("got a user id of this machine")?.text);
    let refused = as_person(scene, asks, &approve, 1).await?;
    paint.says(&refused.line("who asks may not approve")?.text);
    let repaired = || stage.services.artifacts.object(REPAIRED).is_some();
    ensure!(!repaired(), "work was done before anybody approved");
    let approved = as_person(scene, approves, &approve, 0).await?;
    paint.says(&approved.line("approved task_")?.text);

    let run = run.end().await?.with_code(0)?;
    ensure!(repaired(), "what was approved was not done");
    paint.says(end_of(&run)?);
    let trace = scene.operate(&["trace", task], 0).await?;
    let out = trace.out();
    let verdict = out.lines().next().unwrap_or_default();
    ensure!(
        verdict.starts_with("GONE") && verdict.contains("(completed)"),
        "what was approved did not go on to its end: {verdict}"
    );
    paint.says(verdict);
    let who = &trace.line("task.approved")?.text;
    ensure!(
        who.contains(&format!("by {approves} of ")) && who.contains(REASON),
        "the record does not say who approved, and why: {who}"
    );
    paint.says(who);
    paint.shows(&format!(
        "nothing was issued before {approves} said yes; {asks} asked and may not, nor may whoever sits at the server"
    ));
    Ok(())
}

/// Logs a person in at the admin listener, with a browser that is as simple as the provider.
async fn log_in(scene: Scene<'_>, person: &str) -> Result<()> {
    let Scene { stage, paint } = scene;
    let mut login = stage.operate_as(person, &["login"])?;
    let place = login.until("or open ").await?.text;
    let (_, place) = place
        .split_once("or open ")
        .context("the login names no place")?;
    let (page, code) = place.split_once('?').context("the login names no code")?;
    let said = stage
        .curl(&["-d", &format!("{code}&person={person}"), page])
        .await?;
    ensure!(
        said.starts_with("200 "),
        "the provider does not take a login: {said}"
    );
    let login = login.end().await?.with_code(0)?;
    paint.does(&format!("dayfly login --server {}", stage.admin_url));
    paint.says(&login.line("logged in to ")?.text);
    Ok(())
}

/// Runs a command with a person's login, which must end with this code, and shows it.
async fn as_person(
    scene: Scene<'_>,
    person: &str,
    arguments: &[&str],
    code: i32,
) -> Result<Finished> {
    let Scene { stage, paint } = scene;
    paint.does(&format!(
        "dayfly {} --server {}    # {person}",
        typed(arguments),
        stage.admin_url
    ));
    stage
        .operate_as(person, arguments)?
        .end()
        .await?
        .with_code(code)
}
