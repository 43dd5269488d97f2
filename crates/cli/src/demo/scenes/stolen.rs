//! A token is stolen from a running job, without the job's key.

use anyhow::{Context, Result, ensure};
use dayfly_token::alg::Alg;
use dayfly_token::client::{ProofRequest, dpop_proof};
use dayfly_token::sign::SigningKey;

use super::{APP, Scene};
use crate::clock;
use crate::demo::present::is_active;
use crate::http::Clients;
use crate::random;

/// Plays the theft, and gives the token that was stolen.
pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<String> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let url = format!(
        "{}/octo-org/app/app-1.0.tgz",
        stage.services.artifacts.url()
    );
    let job = stage.issuer.job(APP)?;
    let options = ["--workload", "release", "--resource", "artifacts"];
    paint.does("dayfly run --workload release --resource artifacts -- sh leak.sh &");
    let mut run = stage.run(&job, &options, &["sh", "leak.sh"])?;
    run.until("leaked").await?;
    let token = std::fs::read_to_string(stage.path("leaked.token"))?;
    let token = token.trim().to_owned();

    paint.does(&format!("curl -H \"Authorization: Bearer $STOLEN\" {url}"));
    let bearer = format!("Authorization: Bearer {token}");
    let bare = stage.curl(&["-H", &bearer, &url]).await?;
    ensure!(
        bare.starts_with("401 "),
        "a token without its key was answered: {bare}"
    );
    paint.says(&bare);

    paint.does(&format!(
        "curl -H \"Authorization: DPoP $STOLEN\" -H \"DPoP: $PROOF_BY_MY_OWN_KEY\" {url}"
    ));
    let bound = format!("Authorization: DPoP {token}");
    let proof = format!("DPoP: {}", proof_by_another_key(&token, &url)?);
    let forged = stage.curl(&["-H", &bound, "-H", &proof, &url]).await?;
    ensure!(
        forged.starts_with("401 "),
        "another key's proof was answered: {forged}"
    );
    paint.says(&forged);

    let live = is_active(stage, &clients, &token).await?;
    ensure!(live, "the token was not live, so its refusal shows nothing");
    std::fs::write(stage.path("used"), "")?;
    run.end().await?.with_code(0)?;
    paint.shows("the token was live all the while, and is worth nothing without the job's key");
    Ok(token)
}

fn proof_by_another_key(token: &str, url: &str) -> Result<String> {
    let key = SigningKey::generate(Alg::Es256).context("cannot make a key")?;
    let request = ProofRequest {
        method: "GET",
        url,
        now: clock::now_seconds(),
        jti: &random::name()?,
        nonce: None,
        access_token: Some(token),
    };
    dpop_proof(&key, &request).context("cannot sign")
}
