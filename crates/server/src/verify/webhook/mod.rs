//! Webhooks: a platform itself says that a run is over, and proves that it is the platform.
//!
//! | attack | excluded by |
//! |---|---|
//! | a body that nobody signed, or another signed | nothing of it is parsed before the proof over its bytes holds |
//! | guessing a secret by the time that a comparison takes | every comparison takes the same time, and all secrets are tried |
//! | a delivery shown again, late or in another order | it names what is over, which stays over: doing it again does nothing |
//! | a delivery of one issuer shown as another's | each issuer has secrets of its own |
//! | a body that two readers read in two ways | members that stand twice are refused |

mod generic;
mod github;
mod gitlab;
mod signature;

use dayfly_domain::{Claims, Refusal, Rule, Time};
use dayfly_token::claims::text_of;
use dayfly_token::excerpt::Excerpt;
use dayfly_token::json;
use serde_json::{Map, Value};

use crate::declared::{Issuer, IssuerKind};

/// A request as it came.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// The value of a header that stands once and is text.
    pub header: &'a (dyn Fn(&'static str) -> Option<&'a str> + Sync + 'a),
    /// The body, byte by byte.
    pub body: &'a [u8],
}

/// What a header that could be of an issuer's delivery proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proven {
    /// That it is: it holds a secret of the issuer's.
    Already,
    /// Nothing without the body, which it signs.
    WithBody,
}

/// A webhook of a declared issuer, proven to be its own. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedWebhook {
    over: Option<Over>,
}

/// What a platform says is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The claims that a proof of it would have, as far as the webhook knows them.
    pub claims: Claims,
    /// The claim that names the one job that is over; none where all of the run is.
    pub job: Option<&'static str>,
    /// The jobs of the run that are over by the same word, where it names them: each ends what is
    /// its own, and is closed by itself, for a run that was over may go on by other jobs.
    pub jobs: Vec<Over>,
    /// What the platform said, for a person.
    pub said: String,
}

impl Over {
    /// The part of an instance that names the job.
    #[must_use]
    pub fn part(&self) -> Option<String> {
        let job = self.job?;
        Some(format!("{job}={}", self.claims.get(job)?))
    }
}

impl VerifiedWebhook {
    /// What is over; none where it says something else.
    #[must_use]
    pub const fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }
}

/// Checks by the header alone that a delivery could be this issuer's, before its body is read.
///
/// # Errors
/// [`Rule::Authentication`]: whatever its body is, it is not proven by this header.
pub fn check_header<'a>(
    issuer: &Issuer,
    header: &(dyn Fn(&'static str) -> Option<&'a str> + Sync + 'a),
) -> Result<Proven, Refusal> {
    signature::check_header(issuer, header)
}

/// Verifies a webhook of this issuer, and reads it after that.
///
/// # Errors
/// [`Rule::Authentication`] when it is not proven to be the issuer's; a refusal of stage `request`
/// when it is and cannot be read.
pub fn verify(
    issuer: &Issuer,
    delivery: Delivery<'_>,
    now: Time,
) -> Result<VerifiedWebhook, Refusal> {
    signature::check(issuer, delivery, now)?;
    let body = json::object(delivery.body).map_err(|why| {
        Refusal::new(Rule::Invalid)
            .field("body")
            .wanted("one JSON object without members that stand twice")
            .got(why.to_string())
    })?;
    let over = match issuer.kind {
        IssuerKind::Github => github::read(delivery, &body)?,
        IssuerKind::Gitlab => gitlab::read(&body)?,
        IssuerKind::Kubernetes | IssuerKind::Oidc => Some(generic::read(&body)?),
    };
    Ok(VerifiedWebhook { over })
}

/// A member of an object within the body.
fn member<'a>(body: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let mut at = body.get(names.next()?)?;
    for name in names {
        at = at.get(name)?;
    }
    Some(at)
}

/// An id: a whole number without leading zeros, as a number or as text, as a claim has it.
fn id(body: &Map<String, Value>, path: &str) -> Result<String, Refusal> {
    let value = member(body, path);
    let text = value.and_then(text_of).filter(|text| {
        let digits = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits && (text == "0" || !text.starts_with('0'))
    });
    text.map(std::borrow::Cow::into_owned).ok_or_else(|| {
        let got = value.map(Excerpt::of_json);
        Refusal::new(Rule::Invalid)
            .field(path)
            .wanted("a whole number")
            .got(got.as_ref().and_then(Excerpt::text).unwrap_or("nothing"))
    })
}

/// A word of the platform, like a conclusion; what is no plain word is not repeated.
fn word<'a>(body: &'a Map<String, Value>, path: &str) -> &'a str {
    let plain = |word: &&str| {
        (1..=32).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let word = member(body, path).and_then(Value::as_str);
    word.filter(plain).unwrap_or("unknown")
}

/// A claim that is known where the webhook has it as text or number.
fn known(claims: &mut Claims, name: &str, body: &Map<String, Value>, path: &str) {
    let text = member(body, path).and_then(text_of);
    if let Some(text) = text.filter(|text| text.len() <= 256) {
        claims.insert(name.to_owned(), text.into_owned());
    }
}

#[cfg(test)]
mod tests;
