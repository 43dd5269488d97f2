//! Asks GitHub for the number of a repository, which is what a match pins.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use serde_json::Value;
use url::Url;

use crate::http::{Clients, is_loopback};

const MEDIA_TYPE: &str = "application/vnd.github+json";
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// A repository by its names, which hold nothing that means something in a URL, in TOML or in a path of access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    owner: String,
    name: String,
}

/// What GitHub says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    /// The id, which stays its own for ever.
    pub(super) id: u64,
    /// The default branch.
    pub(super) branch: String,
}

impl FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !matches!(part, "" | "." | "..") && part.len() <= 100 && part.bytes().all(allowed)
        };
        match text.split_once('/') {
            Some((owner, name)) if plain(owner) && plain(name) => Ok(Self {
                owner: owner.to_owned(),
                name: name.to_owned(),
            }),
            Some(_) | None => Err("wanted OWNER/REPO, as it stands in the repository's URL".into()),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Asks the API at `base`.
pub(super) async fn ask(
    clients: &Clients,
    base: &str,
    repository: &Repository,
    patience: Duration,
) -> Result<Pinned> {
    let url = format!("{}/repos/{repository}", base.trim_end_matches('/'));
    let url = Url::parse(&url).with_context(|| format!("`{base}` is not a URL"))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    // Whoever changed the answer on its way would choose whose jobs match.
    ensure!(
        url.scheme() == "https" || is_loopback(&url),
        "`{base}` is neither https nor on this machine"
    );
    let request = clients
        .of(&url)
        .get(url)
        .header(ACCEPT, MEDIA_TYPE)
        .timeout(patience);
    let answered = request.send().await;
    let mut response = answered.map_err(|why| match why.is_timeout() {
        true => anyhow!("{host} did not answer within {} s", patience.as_secs()),
        false => anyhow!("{host} cannot be reached"),
    })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => bail!("{host} shows no such repository, or not to everybody"),
        StatusCode::MOVED_PERMANENTLY => bail!("{host} knows it under another name now"),
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            bail!("{host} answers no more questions from here for now")
        }
        other => bail!("{host} answered {other}"),
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.context("the answer broke off")? {
        body.extend_from_slice(&piece);
        ensure!(body.len() <= MAX_ANSWER_BYTES, "{host} answered too much");
    }
    read(&body).with_context(|| format!("{host} answered something else"))
}

fn read(body: &[u8]) -> Result<Pinned> {
    let answer: Value = serde_json::from_slice(body).context("not JSON")?;
    let id = answer.get("id").and_then(Value::as_u64);
    let branch = answer.get("default_branch").and_then(Value::as_str);
    Ok(Pinned {
        id: id.context("no `id`")?,
        branch: branch
            .filter(|name| is_plain(name))
            .unwrap_or("main")
            .to_owned(),
    })
}

/// Whether a branch's name can stand in a TOML string as it is, and means nothing in a match.
fn is_plain(branch: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./+#@".contains(&byte);
    !branch.is_empty() && branch.len() <= 200 && branch.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_two_plain_names() {
        let shown = |text: &str| text.parse::<Repository>().map(|found| found.to_string());
        assert_eq!(
            shown("octo-org/octo.repo_1").unwrap(),
            "octo-org/octo.repo_1"
        );
        for text in [
            "",
            "octo",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "a/..",
            "../b",
            "a b/c",
            "a/b*",
            "a/b\"",
            "a/{b}",
            "https://github.com/a/b",
            "a/é",
        ] {
            assert!(shown(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_answer_is_an_id_and_perhaps_a_branch() {
        let pinned = |id, branch: &str| Pinned {
            id,
            branch: branch.to_owned(),
        };
        let good = read(br#"{"id":1296269,"default_branch":"trunk","x":{}}"#);
        assert_eq!(good.unwrap(), pinned(1_296_269, "trunk"));
        let odd = read(br#"{"id":1,"default_branch":"a\"b"}"#);
        assert_eq!(odd.unwrap(), pinned(1, "main"));
        for text in ["", "[]", "{}", r#"{"id":"1"}"#, r#"{"id":-1}"#] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
