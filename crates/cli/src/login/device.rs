//! A login by device code: a person says yes in a browser, wherever that is, while this asks whether they have (RFC 8628).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::provider::{Provider, Reply, Tokens};

/// How often is asked where the provider does not say (RFC 8628, section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// By how much slower after `slow_down` (section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The longest pause, whatever the provider says.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest that a code is waited for, whatever the provider says.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What the provider gave to begin with.
#[derive(Debug)]
struct Begun {
    device_code: String,
    user_code: String,
    place: String,
    /// The place with the code in it already.
    complete: Option<String>,
    expires_in: Duration,
    interval: Duration,
}

/// What comes of one question.
enum Next {
    /// The person has not answered yet.
    Ask,
    /// They have.
    Done(Tokens),
}

/// Gets tokens; `show` is given what the person has to read.
pub(super) async fn tokens(
    provider: &Provider,
    client_id: &str,
    scope: &str,
    show: impl Fn(&str),
) -> Result<Tokens> {
    let begun = match provider.device_code(client_id, scope).await? {
        Reply::Done(answer) => Begun::read(&answer)?,
        Reply::Refused(error, why) => bail!(
            "the provider refuses to begin a login: {error}{}",
            said(why.as_deref())
        ),
    };
    show(&format!(
        "open {} and enter the code {}",
        begun.place, begun.user_code
    ));
    if let Some(complete) = &begun.complete {
        show(&format!("or open {complete}"));
    }
    match tokio::time::timeout(begun.expires_in, wait(provider, client_id, &begun)).await {
        Ok(done) => done,
        Err(_) => bail!("the code has expired before anybody entered it: begin again"),
    }
}

async fn wait(provider: &Provider, client_id: &str, begun: &Begun) -> Result<Tokens> {
    let form = [
        ("grant_type", GRANT),
        ("device_code", begun.device_code.as_str()),
        ("client_id", client_id),
    ];
    let mut pause = begun.interval;
    loop {
        tokio::time::sleep(pause).await;
        match next(provider.token(&form).await, &mut pause)? {
            Next::Ask => {}
            Next::Done(tokens) => return Ok(tokens),
        }
    }
}

/// What an answer means, and how long to pause from now on.
fn next(reply: Result<Reply>, pause: &mut Duration) -> Result<Next> {
    let (error, why) = match reply {
        Ok(Reply::Done(answer)) => return Ok(Next::Done(Tokens::of(&answer))),
        Ok(Reply::Refused(error, why)) => (error, why),
        // A connection that breaks is no answer; asking less often is demanded (section 3.5).
        Err(_) => {
            *pause = (*pause * 2).min(LONGEST);
            return Ok(Next::Ask);
        }
    };
    match error.as_str() {
        "authorization_pending" => Ok(Next::Ask),
        "slow_down" => {
            *pause = (*pause + SLOWER).min(LONGEST);
            Ok(Next::Ask)
        }
        "access_denied" => bail!("the login was denied"),
        "expired_token" => bail!("the code has expired before anybody entered it: begin again"),
        other => bail!(
            "the provider refuses the login: {other}{}",
            said(why.as_deref())
        ),
    }
}

fn said(why: Option<&str>) -> String {
    why.map(|why| format!(" ({why})")).unwrap_or_default()
}

impl Begun {
    fn read(answer: &Map<String, Value>) -> Result<Self> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        let must = |name: &str| {
            text(name).with_context(|| format!("the provider's answer has no `{name}`"))
        };
        let seconds = |name: &str| {
            answer
                .get(name)
                .and_then(Value::as_u64)
                .map(Duration::from_secs)
        };
        Ok(Self {
            device_code: must("device_code")?,
            user_code: must("user_code")?,
            place: must("verification_uri")?,
            complete: text("verification_uri_complete"),
            expires_in: seconds("expires_in")
                .context("the provider's answer has no `expires_in`")?
                .min(LONGEST_WAIT),
            interval: seconds("interval").unwrap_or(INTERVAL).min(LONGEST),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use serde_json::json;

    fn refused(error: &str) -> Result<Reply> {
        Ok(Reply::Refused(error.to_owned(), None))
    }

    #[test]
    fn the_pause_grows_as_the_provider_and_the_network_ask() {
        let mut pause = Duration::from_secs(5);
        for (reply, seconds) in [
            (refused("authorization_pending"), 5),
            (refused("slow_down"), 10),
            (refused("authorization_pending"), 10),
            (Err(anyhow!("no route")), 20),
            (refused("slow_down"), 25),
            (Err(anyhow!("no route")), 50),
            (Err(anyhow!("no route")), 60),
            (refused("slow_down"), 60),
        ] {
            assert!(matches!(next(reply, &mut pause).unwrap(), Next::Ask));
            assert_eq!(pause.as_secs(), seconds);
        }
    }

    #[test]
    fn a_no_and_an_end_are_final() {
        for (error, said) in [
            ("access_denied", "denied"),
            ("expired_token", "expired"),
            ("invalid_client", "invalid_client"),
        ] {
            let mut pause = INTERVAL;
            let why = next(refused(error), &mut pause).err().unwrap();
            assert!(why.to_string().contains(said), "{why}");
        }
        let answer = json!({"id_token": "a.b.c"});
        let done = Ok(Reply::Done(answer.as_object().unwrap().clone()));
        let mut pause = INTERVAL;
        let Next::Done(tokens) = next(done, &mut pause).unwrap() else {
            panic!("tokens are tokens");
        };
        assert_eq!(tokens.id_token.unwrap().expose(), "a.b.c");
        assert!(tokens.refresh_token.is_none());
    }

    #[test]
    fn what_the_provider_leaves_out_has_its_default() {
        let answer = json!({
            "device_code": "d", "user_code": "u", "verification_uri": "https://idp.example/device",
            "expires_in": 1_000_000,
        });
        let begun = Begun::read(answer.as_object().unwrap()).unwrap();
        assert_eq!((begun.interval, begun.expires_in), (INTERVAL, LONGEST_WAIT));
        assert!(Begun::read(&Map::new()).is_err());
    }
}
