//! An agent hands work to three helpers, one of which hands on; the end of that one ends what came from it alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::shared::{let_go, token_of};
use super::{AGENT, Scene, end_said, named_in, shown};
use crate::clock;
use crate::demo::present::is_active;
use crate::demo::process::Finished;
use crate::http::Clients;

const AGENT_NAME: &str = "agent";
/// Who is handed work, in the order of their names.
const HELPERS: [&str; 4] = ["checker", "editor", "reader", "writer"];
/// The helper that is ended, and what came from it.
const ENDED: &str = "editor";
const SUBTREE: [&str; 2] = ["checker", "editor"];

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let job = stage.issuer.job(AGENT)?;
    let options = ["--workload", "agent", "--resource", "artifacts"];
    paint.does("dayfly run --workload agent --resource artifacts -- sh agent.sh &");
    for line in include_str!("../scripts/agent.sh")
        .lines()
        .filter(delegates)
    {
        paint.says(line);
    }
    let mut run = stage.run(&job, &options, &["sh", "agent.sh"])?;
    let mut ids = BTreeMap::new();
    for _ in 0..=HELPERS.len() {
        let line = run.until(" is in, as ").await?.text;
        let (name, _) = line.split_once(" is in").unwrap_or_default();
        ids.insert(name.to_owned(), named_in(&line, "client_")?.to_owned());
    }
    let everybody = active(scene).await?;
    let mut wanted = HELPERS.to_vec();
    wanted.insert(0, AGENT_NAME);
    ensure!(
        everybody == wanted,
        "not everybody is at work: {everybody:?}"
    );
    let task = task_of_client(ids.get(AGENT_NAME))?;
    let before = scene.operate(&["task", "show", &task], 0).await?;
    tree(scene, &before, &ids)?;

    let ended = ids.get(ENDED).context("the helper to end is not there")?;
    let command = ["client", "end", ended, "--reason", "misled by what it read"];
    let said = scene.operate(&command, 0).await?.out();
    let told = clock::instant();
    let left = active(scene).await?;
    paint.says(said.lines().next().unwrap_or_default());
    wanted.retain(|name| !SUBTREE.contains(name));
    ensure!(left == wanted, "who is left is {left:?}, not {wanted:?}");
    paint.says(&format!(
        "artifacts asks about each one's token: {} over, {} active as before",
        SUBTREE.join(" and "),
        left.join(", ")
    ));
    let trace = scene.operate(&["trace", ended], 0).await?;
    let out = trace.out();
    let verdict = out.lines().next().unwrap_or_default();
    ensure!(
        verdict.starts_with("GONE") && verdict.contains("(operator"),
        "the helper is not gone by an operator's word: {verdict}"
    );
    paint.says(verdict);
    tree(scene, &trace, &ids)?;
    paint.says(&trace.line("  client.ended ")?.text);
    // Its own process and that of the one below stop by themselves: nobody lets them go.
    let stopped = run.until(&format!("{ended} ended `operator`")).await?.at;
    paint.says(&format!(
        "the process of {ENDED} was stopped {} after the end, and what it had started with it",
        shown(stopped - told)
    ));
    for name in left {
        let_go(scene, name)?;
    }
    let run = run.end().await?.with_code(0)?;
    paint.says(end_said(&run, &format!("{task} ended `completed`"))?);
    paint.shows(&format!(
        "a helper has a key of its own and a part of the access; with {ENDED} went what it had handed on, and nothing besides"
    ));
    Ok(())
}

fn delegates(line: &&str) -> bool {
    line.starts_with("dayfly delegate")
}

/// Whose tokens the server calls active when `artifacts` asks about each.
async fn active(scene: Scene<'_>) -> Result<Vec<&'static str>> {
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let mut active = Vec::new();
    for name in [AGENT_NAME].into_iter().chain(HELPERS) {
        if is_active(scene.stage, &clients, &token_of(scene, name)?).await? {
            active.push(name);
        }
    }
    Ok(active)
}

/// The task that a client is of, as its id says.
fn task_of_client(client: Option<&String>) -> Result<String> {
    let id = client.and_then(|client| client.strip_prefix("client_"));
    let id = id.and_then(|id| id.split_once('_'));
    let (id, _) = id.context("the agent has no client")?;
    Ok(format!("task_{id}"))
}

/// The lines of a tree that are about clients, each with its name and how it stands.
fn tree(scene: Scene<'_>, shown: &Finished, ids: &BTreeMap<String, String>) -> Result<()> {
    let mut found = 0;
    for line in &shown.lines {
        let text = line.text.trim_start();
        let indent = line.text.len() - text.len();
        let name = ids
            .iter()
            .find(|(_, id)| text.starts_with(&format!("{id}  ")));
        if let Some((name, _)) = name {
            found += 1;
            let standing = text.split(',').next().unwrap_or_default();
            scene
                .paint
                .says(&format!("{}{standing}, {name}", " ".repeat(indent)));
        }
    }
    ensure!(
        found == ids.len(),
        "{found} of {} clients are in the tree",
        ids.len()
    );
    Ok(())
}
