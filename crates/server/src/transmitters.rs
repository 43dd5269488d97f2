//! Events that are fetched: each transmitter that is declared so is asked again and again (RFC 8936).
//!
//! An event is acknowledged once what it says is in the ledger or in the journal, never before; so
//! whatever falls in between is told once more. What cannot be judged is told to be so, and not
//! asked for again. A transmitter that does not answer ends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dayfly_domain::{Name, Time};
use dayfly_token::json;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::{App, Signalled, Tenant, Trail};
use crate::declared::{Delivery, Poll};
use crate::http::describe;
use crate::random;
use crate::telemetry::Metrics;
use crate::verify::signal::{SetError, Unfit};
use crate::verify::{FetchError, Receiver, chain};

/// How often it is looked whether other transmitters are declared by now.
const LOOK: Duration = Duration::from_secs(1);
/// The most events that are asked for at once.
const MOST: u32 = 32;
/// How often a transmitter is asked without a pause, however much it has to say.
const IN_A_ROW: u32 = 64;
/// The first and the longest wait after a request that failed.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Since when and why transmitters cannot be asked, by tenant and name.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<BTreeMap<(Name, Name), (Time, String)>>);

impl Outages {
    /// Each in words.
    pub(crate) fn told(&self) -> Vec<String> {
        let outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = outages.iter().map(|((tenant, name), (since, why))| {
            format!("the transmitter {name} of {tenant} gives no events since {since}: {why}")
        });
        told.collect()
    }

    /// Notes how a request went; whether that is a change.
    fn note(&self, of: &(Name, Name), now: Time, failure: Option<&str>) -> bool {
        let mut outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => outages.remove(of).is_some(),
            Some(why) => {
                let since = outages.get(of).map_or(now, |(since, _)| *since);
                outages
                    .insert(of.clone(), (since, why.to_owned()))
                    .is_none()
            }
        }
    }
}

/// Asks every transmitter that is declared to be asked, until told to stop.
pub async fn fetch_events(app: Arc<App>, metrics: Arc<Metrics>, stopping: watch::Receiver<bool>) {
    let mut asked: BTreeSet<(Name, Name)> = BTreeSet::new();
    let mut asking = JoinSet::new();
    let stop = stopped(stopping.clone());
    tokio::pin!(stop);
    loop {
        for tenant in app.tenants() {
            for name in tenant.loaded().receivers.keys() {
                let of = (tenant.name().clone(), name.clone());
                if poll(tenant, name).is_none() || !asked.insert(of.clone()) {
                    continue;
                }
                let line = Line {
                    app: Arc::clone(&app),
                    tenant: Arc::clone(tenant),
                    of,
                    metrics: Arc::clone(&metrics),
                    told: Told::default(),
                    most: MOST,
                    wait: FIRST_WAIT,
                };
                asking.spawn(line.run(stopping.clone()));
            }
        }
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(LOOK) => {}
            Some(ended) = asking.join_next() => {
                if let Ok(of) = ended {
                    asked.remove(&of);
                }
            }
        }
    }
    while asking.join_next().await.is_some() {}
}

/// The receiver of a transmitter that is declared to be asked.
fn poll(tenant: &Tenant, name: &Name) -> Option<(Arc<Receiver>, Poll)> {
    let loaded = tenant.loaded();
    let receiver = loaded.receivers.get(name)?;
    match receiver.delivery() {
        Delivery::Push(_) => None,
        Delivery::Poll(poll) => Some((Arc::clone(receiver), poll.clone())),
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _gone = stopping.wait_for(|stop| *stop).await;
}

/// The way to one transmitter.
struct Line {
    app: Arc<App>,
    tenant: Arc<Tenant>,
    of: (Name, Name),
    metrics: Arc<Metrics>,
    told: Told,
    /// How many events are asked for: fewer while more do not fit into one answer.
    most: u32,
    wait: Duration,
}

/// What the transmitter is to be told with the next request.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    unfit: Map<String, Value>,
}

/// What a transmitter has answered.
#[derive(Debug, PartialEq, Eq)]
struct Batch {
    sets: Vec<(String, String)>,
    more: bool,
}

impl Line {
    async fn run(mut self, stopping: watch::Receiver<bool>) -> (Name, Name) {
        tokio::select! {
            () = self.ask() => {}
            () = stopped(stopping) => {}
        }
        self.app.outages.note(&self.of, self.app.now(), None);
        self.of
    }

    /// Asks until the transmitter is not declared to be asked any more.
    async fn ask(&mut self) {
        while let Some((receiver, poll)) = poll(&self.tenant, &self.of.1) {
            let round = self.round(&receiver, &poll).await;
            let failure = round.as_ref().err();
            let (tenant, name) = &self.of;
            let outcome = if failure.is_none() {
                "answered"
            } else {
                "failed"
            };
            self.metrics.asked(tenant, name, outcome);
            let changed =
                self.app
                    .outages
                    .note(&self.of, self.app.now(), failure.map(String::as_str));
            match (failure, changed) {
                (None, true) => {
                    tracing::info!(%tenant, %name, "the transmitter gives events again")
                }
                (Some(why), true) => {
                    tracing::warn!(%tenant, %name, %why, "the transmitter gives no events; it is asked again");
                }
                (None | Some(_), false) => {}
            }
            if failure.is_none() {
                self.wait = FIRST_WAIT;
                tokio::time::sleep(seconds(&poll)).await;
            } else {
                self.pause().await;
            }
        }
    }

    /// Asks for as long as there is more, and once more for what is to be acknowledged.
    async fn round(&mut self, receiver: &Receiver, poll: &Poll) -> Result<(), String> {
        let mut more = true;
        for _ in 0..IN_A_ROW {
            let most = if more { self.most } else { 0 };
            let answer = match receiver.ask(poll, self.told.request(most)).await {
                Ok(answer) => answer,
                Err(FetchError::TooLong { .. }) if most > 1 => {
                    self.most = most / 2;
                    continue;
                }
                Err(why) => return Err(chain(&why)),
            };
            let batch = Batch::read(&answer)?;
            self.most = self.most.saturating_mul(2).min(MOST);
            // The transmitter has been told.
            self.told = Told::default();
            more = batch.more;
            // All of them came now: keys that are read for the first do for the others.
            let came = self.app.now();
            for (jti, set) in batch.sets {
                let outcome = self.take(receiver, jti, &set, came).await;
                self.metrics.signalled(&self.of.0, &self.of.1, outcome);
            }
            // Of what could not be taken now the same would come again at once.
            if self.told.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn take(
        &mut self,
        receiver: &Receiver,
        jti: String,
        set: &str,
        came: Time,
    ) -> &'static str {
        let trail = Trail {
            asked: "signal",
            issuer: Some(receiver.name().clone()),
            ..Trail::default()
        };
        let judged = match receiver.verify(set, came).await {
            Ok(signal) if signal.jti() == jti => Ok(signal),
            Ok(_) => Err(Unfit::other_jti()),
            Err(unfit) => Err(unfit),
        };
        let jumped = self.app.has_jumped();
        let signal = match judged.map_err(|unfit| unfit.or_later(jumped)) {
            Ok(signal) => signal,
            // It is told once more, and may be judged then.
            Err(unfit) if unfit.may_pass() => return "refused",
            Err(Unfit { err, refusal, .. }) => {
                let refused = self.app.refused(&self.tenant, &trail, refusal);
                self.told.refuse(jti, err, &describe(&refused.refusal));
                return "malformed";
            }
        };
        let (outcome, durable) = match self.app.signal(&self.tenant, &signal, &trail).await {
            Ok(Signalled::Ignored) => ("ignored", true),
            Ok(Signalled::Known) => ("nothing", true),
            Ok(Signalled::Over { recorded }) => ("over", recorded),
            Err(_) => ("refused", false),
        };
        // What was kept by a wrong clock may be forgotten too early: it is told once more.
        if durable && !jumped {
            self.told.acknowledged.push(jti);
        }
        outcome
    }

    /// Waits longer after each failure, by a random half, so that not all come back at one moment.
    async fn pause(&mut self) {
        let half = self.wait / 2;
        let part = random::bytes::<1>().map_or(u8::MAX, |[byte]| byte);
        tokio::time::sleep(half + half * u32::from(part) / u32::from(u8::MAX)).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}

impl Told {
    fn is_empty(&self) -> bool {
        self.acknowledged.is_empty() && self.unfit.is_empty()
    }

    fn refuse(&mut self, jti: String, err: SetError, description: &str) {
        let told = serde_json::json!({"err": err.code(), "description": description});
        // What no event could be named by is told as well: it would come again and keep others away.
        // An answer is bounded, and so is what is repeated of it.
        self.unfit.insert(jti, told);
    }

    /// The next request (RFC 8936, section 2.2).
    fn request(&self, most: u32) -> String {
        let mut request = serde_json::json!({"maxEvents": most, "returnImmediately": true});
        if let Some(members) = request.as_object_mut() {
            if !self.acknowledged.is_empty() {
                members.insert("ack".to_owned(), self.acknowledged.clone().into());
            }
            if !self.unfit.is_empty() {
                members.insert("setErrs".to_owned(), self.unfit.clone().into());
            }
        }
        request.to_string()
    }
}

impl Batch {
    /// Reads an answer (RFC 8936, section 2.3).
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let answer =
            json::object(bytes).map_err(|why| format!("its answer is malformed: {why}"))?;
        let wrong = |what: &str| format!("its answer is malformed: {what}");
        let sets = match answer.get("sets") {
            Some(Value::Object(sets)) => sets,
            Some(_) | None => return Err(wrong("`sets` is no object")),
        };
        let more = match answer.get("moreAvailable") {
            None => false,
            Some(Value::Bool(more)) => *more,
            Some(_) => return Err(wrong("`moreAvailable` is neither true nor false")),
        };
        // One that is no text is told to be none like any other.
        let text = |set: &Value| set.as_str().unwrap_or_default().to_owned();
        let sets = sets.iter().map(|(jti, set)| (jti.clone(), text(set)));
        Ok(Self {
            sets: sets.collect(),
            more,
        })
    }
}

const fn seconds(poll: &Poll) -> Duration {
    Duration::from_millis(poll.every.millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_strictly() {
        let read = |text: &str| Batch::read(text.as_bytes());
        assert_eq!(
            read(r#"{"sets":{"a":"x.y.z","b":7},"moreAvailable":true,"other":1}"#),
            Ok(Batch {
                sets: vec![("a".into(), "x.y.z".into()), ("b".into(), String::new())],
                more: true,
            })
        );
        assert!(read(r#"{"sets":{}}"#).is_ok_and(|batch| !batch.more));
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"sets":[]}"#,
            r#"{"sets":{},"sets":{}}"#,
            r#"{"sets":{},"moreAvailable":"no"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_told_is_told_by_name() {
        let mut told = Told::default();
        assert_eq!(
            told.request(MOST),
            r#"{"maxEvents":32,"returnImmediately":true}"#
        );
        told.acknowledged.push("a".into());
        told.refuse("b".into(), SetError::InvalidKey, "why");
        told.refuse("c".repeat(256), SetError::InvalidKey, "why");
        told.refuse(String::new(), SetError::InvalidKey, "why");
        let request: Value = serde_json::from_str(&told.request(0)).unwrap();
        assert_eq!(request["ack"], serde_json::json!(["a"]));
        assert_eq!(request["setErrs"].as_object().unwrap().len(), 3);
        assert_eq!(request["setErrs"]["b"]["err"], "invalid_key");
    }
}
