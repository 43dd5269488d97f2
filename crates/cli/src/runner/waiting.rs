//! A run whose task waits for people: asking until they have decided, and taking the request back.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;

use crate::clock;
use crate::output::say;
use crate::runner::request::{Opened, ask_token, renewal_form};
use crate::runner::server::{Body, Call};
use crate::runner::session::{Parts, Session};
use crate::runner::tokens::Token;
use crate::runner::wire::{Deferral, Failure};

const DEFERRED: &str = "urn:ietf:params:oauth:grant-type:deferred";
const DEFERRAL_CODE: &str = "urn:ietf:params:oauth:token-type:deferral-code";
/// The rule by which a server refuses for now that could not ask a cluster about the run's pod.
const UNASKED: &str = "token_review_unavailable";
/// By how much a poll that came too soon makes the wait longer.
const SLOWER: Duration = Duration::from_secs(5);
/// The longest wait between two polls that a server is believed to want, in seconds.
const LONGEST_INTERVAL: u64 = 60;

/// A run whose task waits for an approval.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) session: Parts,
    pub(super) deferral: Deferral,
}

/// What became of a request that was taken back.
#[derive(Debug)]
pub(crate) enum TakenBack {
    /// It is over, and nobody is asked about it any more.
    Over,
    /// It was fetched before, by a poll whose answer was not heard: this is its client, who ends.
    Fetched(Box<Session>),
}

/// A grant that people have approved.
pub(crate) struct Granting(Token, Opened);

impl Waiting {
    /// The task that waits.
    pub(crate) fn task(&self) -> &str {
        &self.deferral.task
    }

    /// The command by which somebody approves it, wherever that one sits.
    pub(crate) fn approving(&self) -> String {
        let task = &self.deferral.task;
        let tenant = self.session.server.address().tenant();
        let place = match self.deferral.admin_url() {
            Some(url) => format!("--tenant {tenant} --server {url}"),
            None => format!("--tenant {tenant}"),
        };
        format!("dayfly task approve {task} {place} --reason TEXT")
    }

    /// How long the server waits for people.
    pub(crate) fn expires_in(&self) -> Duration {
        Duration::from_secs(self.deferral.expires_in)
    }

    /// Asks, as often as the server lets it, until people have decided or `limit` is over. A server that is away is
    /// asked on: what waits there goes on waiting. So is one that took no second showing of the platform's token:
    /// only the answer to a poll decides.
    pub(crate) async fn decided(&self, limit: Duration) -> Result<Granting, Failure> {
        let until = clock::after(limit);
        let mut interval = Duration::from_secs(self.deferral.interval.clamp(1, LONGEST_INTERVAL));
        let mut unheard = false;
        let mut said = false;
        loop {
            let next = clock::after(interval);
            let last = next > until;
            tokio::time::sleep_until(next.min(until)).await;
            match self.poll().await {
                Ok(granting) => return Ok(granting),
                Err(Failure::Refused(refusal)) if refusal.error == "slow_down" && !last => {
                    interval = interval.saturating_add(SLOWER);
                }
                Err(Failure::Refused(refusal))
                    if refusal.error == "authorization_pending" && !last => {}
                // The answer that opened the task may be the one that was not heard: the code is spent
                // then, and the first client of the task renews by its key.
                Err(Failure::Refused(refusal)) if refusal.error == "invalid_grant" && unheard => {
                    return self.renewed().await;
                }
                Err(Failure::Away(away)) if !last => {
                    unheard = true;
                    if away.rule.as_deref() == Some(UNASKED) {
                        match self.shown_again().await {
                            Ok(Some(granting)) => return Ok(granting),
                            Ok(None) => {}
                            // What people have approved goes on waiting, whatever becomes of this
                            // showing: another one may be taken.
                            Err(failure) => {
                                if !said {
                                    say(format_args!("could not show its proof again: {failure}"));
                                }
                                said = true;
                            }
                        }
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn poll(&self) -> Result<Granting, Failure> {
        let form = vec![
            ("grant_type", DEFERRED.to_owned()),
            ("deferral_code", self.deferral.code.expose().to_owned()),
        ];
        let (token, granted) = ask_token(&self.session.server, &self.session.binding, form).await?;
        Ok(Granting(token, granted))
    }

    /// Shows the platform's present token once more, by the request that began it: a server asks the cluster about a
    /// pod by its token alone, and has none at hand after a restart or once that token has expired. It is told the
    /// same code; a grant, were it one, is not lost.
    async fn shown_again(&self) -> Result<Option<Granting>, Failure> {
        let Parts {
            server,
            origin,
            ask,
            binding,
            ..
        } = &self.session;
        let shown = origin.show(server, binding).await?;
        match ask_token(server, binding, shown.first_form(ask, binding)).await {
            Ok((token, granted)) => Ok(Some(Granting(token, granted))),
            Err(Failure::Refused(refusal)) if refusal.deferral.is_some() => Ok(None),
            Err(Failure::Away(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn renewed(&self) -> Result<Granting, Failure> {
        let Parts {
            server,
            binding,
            ask,
            ..
        } = &self.session;
        let key = binding.signing_key().context("what waits has a key")?;
        let id = self.deferral.task.strip_prefix("task_");
        let client = format!("client_{}_1", id.unwrap_or_default());
        let form = renewal_form(server, &client, key, &ask.target)?;
        let (token, granted) = ask_token(server, binding, form).await?;
        Ok(Granting(token, granted))
    }

    /// The session that was granted.
    pub(crate) fn session(self, granting: Granting) -> Session {
        let Granting(token, granted) = granting;
        self.session.session(token, granted)
    }

    /// Takes the request back, so that nobody is asked about it any more. A poll that was under way may have fetched
    /// it: asking once more tells, and then there is a client to end.
    pub(crate) async fn take_back(self) -> Result<TakenBack, Failure> {
        let cancelled = self.cancel().await;
        let granting = match self.poll().await {
            Ok(granting) => granting,
            Err(Failure::Refused(refusal)) if refusal.error == "invalid_grant" => {
                match self.renewed().await {
                    Ok(granting) => granting,
                    Err(Failure::Refused(refusal)) if refusal.means_ended() => {
                        return Ok(TakenBack::Over);
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Err(failure) => {
                cancelled?;
                return match failure {
                    Failure::Refused(refusal)
                        if matches!(refusal.error.as_str(), "access_denied" | "expired_token") =>
                    {
                        Ok(TakenBack::Over)
                    }
                    failure @ (Failure::Refused(_) | Failure::Away(_) | Failure::Fault(_)) => {
                        Err(failure)
                    }
                };
            }
        };
        Ok(TakenBack::Fetched(Box::new(self.session(granting))))
    }

    async fn cancel(&self) -> Result<(), Failure> {
        let call = Call {
            method: Method::POST,
            url: self.session.server.address().below("revoke"),
            body: Body::Form(vec![
                ("token", self.deferral.code.expose().to_owned()),
                ("token_type_hint", DEFERRAL_CODE.to_owned()),
            ]),
            key: self.session.binding.signing_key(),
            token: None,
        };
        self.session.server.send(&call).await.map(|_| ())
    }
}
