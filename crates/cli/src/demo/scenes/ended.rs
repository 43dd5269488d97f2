//! One token, presented before the end of its task and after it.

use anyhow::{Context, Result, ensure};
use reqwest::Method;

use super::{APP, Scene, end_of, shown};
use crate::clock;
use crate::demo::issuer::Job;
use crate::demo::present::Signed;
use crate::http::Clients;

/// A job that is over.
pub(in crate::demo) struct Over {
    pub(in crate::demo) job: Job,
    pub(in crate::demo) task: String,
}

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<Over> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let url = format!(
        "{}/octo-org/app/app-1.0.tgz",
        stage.services.artifacts.url()
    );
    let job = stage.issuer.job(APP)?;
    let options = ["--workload", "release", "--resource", "artifacts"];
    paint.does(&format!(
        "dayfly run --workload release --resource artifacts -- sh sign.sh {url}"
    ));
    let mut run = stage.run(&job, &options, &["sh", "sign.sh", &url])?;
    let accepted = run.until("answered 200").await?;
    let later = Signed::read(&stage.path("later.json"))?;
    let ended = run.until(" ended ").await?;
    let answer = later.send(&clients, Method::GET, &url).await?;
    let refused = clock::instant();
    let left = later.expires()?.saturating_sub(clock::now_seconds());
    let run = run.end().await?.with_code(0)?;
    ensure!(
        answer.status == 401,
        "the token was answered with {} after the end: {}",
        answer.status,
        answer.text
    );
    let (before, after) = (ended.at - accepted.at, refused - ended.at);
    paint.says(&format!(
        "200 from artifacts, {} before the next line",
        shown(before)
    ));
    paint.says(end_of(&run)?);
    paint.says(&format!(
        "401 from {}, {} after that line",
        answer.text,
        shown(after)
    ));
    paint.shows(&format!(
        "who asks sees the end at once, though the token itself says that it lives for another {left} s"
    ));
    let task = super::task_of(&run)?.to_owned();
    Ok(Over { job, task })
}
