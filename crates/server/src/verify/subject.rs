//! People on whose behalf an agent asks: a person's token, checked whole, as a value that only this module makes.
//!
//! | attack | excluded by |
//! |---|---|
//! | the token of a job, or of anybody whom no issuer of people vouches for | the issuer must say `people = true` |
//! | a credential of this server, a hand-over, an event, a logout token, an ID-JAG | each kind of token has its type, and one that reports events is none of them |
//! | a program's own token, shown as a person's | `sub` must be another than the client, and the token must show a login: `auth_time`, or what its issuer has instead |
//! | a token that was refreshed after its session was over | `auth_time` counts, which no refresh moves, unless the issuer says that it may be missing |
//! | a token that is bound to somebody else's key | whoever shows it must prove that very key |
//! | a token for another agent | `may_act` must name the one who shows it |
//! | a person who calls himself a workload | such a `sub` is none of a person |
//! | a token of one who acts for the person already | `act` is refused: the chain before it would be lost |

use std::sync::Arc;

use dayfly_domain::{Claims, Digest, Name, Needed, Refusal, Rule, Span, Subject, Time};
use dayfly_token::jwt::Jwt;
use dayfly_token::times::SKEW_SECONDS;
use dayfly_token::typ::TypRule;
use serde_json::Value;

use super::explain;
use super::flatten::flatten;
use super::proof::VerifiedProof;
use super::pseudonym::{MAX_SUB_BYTES, PERSON, check_auth, subject};
use super::verifier::{Trusted, Verifier};

/// How the subject of a workload begins in tokens of this server: no person is called so.
const WORKLOAD: &str = "workload:";
/// Below what the claims of a person's token say who may act with it.
const MAY_ACT: &str = "/may_act/";
/// What a person's token may say about who acts with it, in bytes.
const MAX_ACTOR_BYTES: usize = 512;
/// What an ID token has only from a login (OpenID Connect Core 1.0, sections 2 and 3.3.2.11; Front-
/// and Back-Channel Logout 1.0).
const OF_A_LOGIN: [&str; 5] = ["auth_time", "nonce", "at_hash", "c_hash", "sid"];

/// What a request says that a person's token is (RFC 8693, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonToken {
    /// An ID token (OpenID Connect Core 1.0, section 2).
    IdToken,
    /// An access token (RFC 9068).
    AccessToken,
    /// One of them, by its type.
    Jwt,
}

/// A person's token that passed every check.
#[derive(Clone, Debug)]
pub struct VerifiedSubject {
    subject: Subject,
    claims: Arc<Claims>,
    issuer_url: String,
    issued: Time,
    bound: Option<Bound>,
}

/// What a token is bound to (RFC 7800).
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// A key, by its thumbprint.
    Key(Digest),
    /// Something that cannot be proven here.
    Else,
}

/// Who shows a person's token.
#[derive(Clone, Copy, Debug)]
pub struct Showing<'a> {
    /// The proof of the agent.
    pub proof: &'a VerifiedProof,
    /// The workload that it matched.
    pub workload: &'a Name,
    /// The key that it proved to hold.
    pub jkt: Option<Digest>,
}

impl Verifier {
    /// Verifies a person's token that is shown beside the proof of whoever acts for the person. The
    /// order is that of a proof: nothing is fetched before the issuer is known to vouch for people,
    /// no claim is read before the signature holds.
    ///
    /// # Errors
    /// A refusal of stage `proof`, whose field names the parameter.
    pub async fn verify_subject(
        &self,
        token: &str,
        kind: PersonToken,
        now: Time,
    ) -> Result<VerifiedSubject, Refusal> {
        let verified = self.judge(token, kind, now).await;
        verified.map_err(|refusal| {
            let field = format!("subject_token {}", refusal.field);
            refusal.field(field)
        })
    }

    async fn judge(
        &self,
        token: &str,
        kind: PersonToken,
        now: Time,
    ) -> Result<VerifiedSubject, Refusal> {
        let jwt =
            Jwt::parse(token, self.bounds.token_bytes).map_err(|error| explain::form(&error))?;
        let rule = rule_of(kind, jwt.header().typ.as_deref());
        rule.check(jwt.header().typ.as_deref()).map_err(|error| {
            explain::typ(&error)
                .hint("send the person's id token, or an access token of the type at+jwt")
        })?;
        let trusted = self.vouching(jwt.claimed_issuer())?;
        let auth_age = trusted
            .people()
            .ok_or_else(|| no_people(trusted.url(), self))?;
        let jwt = trusted.verify_signature(jwt, now).await?;
        let claims = jwt.claims();
        check_kind(claims, rule)?;
        let times = self.check_times(trusted.issuer(), claims, now)?;
        if rule == TypRule::AccessToken {
            claims
                .sole_audience_of(&[self.recipient.issuer.as_str()])
                .map_err(|error| explain::audience(&error))?;
            claims
                .bounded_text("client_id", MAX_ACTOR_BYTES)
                .map_err(|error| explain::claim(&error))?;
        } else {
            let declared = trusted.issuer().audience.as_deref().unwrap_or_default();
            check_client(claims, declared)?;
            check_login(claims)?;
        }
        let sub = subject(claims)?;
        check_not_a_client(claims, sub)?;
        check_name(claims, sub)?;
        check_may_act(claims)?;
        // INVARIANT: `check_times` wants `iat` of people's issuers.
        let issued = Time::from_seconds(times.iat.unwrap_or_default());
        let untold = trusted.issuer().auth_time == Needed::Optional;
        let authenticated = match claims.get("auth_time") {
            None if untold => made(issued, auth_age, now)?,
            Some(_) | None => check_auth(claims, auth_age, now)?,
        };
        let person = self.pseudonyms.of(trusted.url(), sub);
        let mut flat = flatten(claims)?;
        // What the token itself calls so is not ours.
        flat.insert(PERSON.to_owned(), person.to_string());
        Ok(VerifiedSubject {
            subject: Subject {
                issuer: trusted.issuer().name.clone(),
                person,
                authenticated,
            },
            claims: Arc::new(flat),
            issuer_url: trusted.url().to_owned(),
            issued,
            bound: bound_to(claims)?,
        })
    }

    /// The declared issuer; of a credential of this server it is told where that belongs.
    fn vouching(&self, claimed: Option<&str>) -> Result<&Trusted, Refusal> {
        self.trusted(claimed).map_err(|refusal| {
            if claimed == Some(self.recipient.issuer.as_str()) {
                refusal.hint("a credential of this server names no person: a helper is given a hand-over (docs/delegation.md)")
            } else {
                refusal
            }
        })
    }
}

impl VerifiedSubject {
    /// The person as a leaf may hold one.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What the token claims, laid flat.
    #[must_use]
    pub const fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// The token's `iss`.
    #[must_use]
    pub fn issuer_url(&self) -> &str {
        &self.issuer_url
    }

    /// The token's `sub`.
    #[must_use]
    pub fn sub(&self) -> Option<&str> {
        self.claims.get("sub").map(String::as_str)
    }

    /// When it was made.
    #[must_use]
    pub const fn issued(&self) -> Time {
        self.issued
    }

    /// Checks that whoever shows it may: it holds the key that the token is bound to (RFC 9449,
    /// section 6), and is who the token says may act (RFC 8693, section 4.4).
    ///
    /// # Errors
    /// A refusal of stage `binding` or `proof`.
    pub fn check_shown_by(&self, by: &Showing<'_>, issuer: &str) -> Result<(), Refusal> {
        let wanted = match self.bound {
            None => None,
            Some(Bound::Key(key)) if by.jkt == Some(key) => None,
            Some(Bound::Key(key)) => Some(format!("a dpop proof by the key {key}")),
            Some(Bound::Else) => Some("a token that is bound to nothing but a dpop key".to_owned()),
        };
        if let Some(wanted) = wanted {
            return Err(Refusal::new(Rule::OtherKey)
                .field("subject_token cnf")
                .wanted(wanted)
                .got(by.jkt.map_or_else(|| "no key".to_owned(), |jkt| jkt.to_string()))
                .hint("a token that is bound to a key is worth nothing without it: let the agent get one of its own, or show the id token"));
        }
        if lets_act(
            &self.claims,
            Some(&by.proof.proof().claims),
            by.workload,
            issuer,
        ) {
            return Ok(());
        }
        Err(Refusal::new(Rule::ActorRefused)
            .field("subject_token may_act")
            .wanted("`iss` and `sub` of the actor's proof, or of its workload at this server")
            .got("another party"))
    }
}

/// Whether a person's token lets somebody act: everybody, where it does not say who may (RFC 8693, section
/// 4.4); otherwise who it names by each of the members of `may_act`, as claims of the own proof or as a
/// workload of this server. `person` are the claims of the token, laid flat.
pub(crate) fn lets_act(
    person: &Claims,
    proof: Option<&Claims>,
    workload: &Name,
    issuer: &str,
) -> bool {
    let said = person.iter();
    let said: Vec<(&str, &str)> = said
        .filter_map(|(name, text)| Some((name.strip_prefix(MAY_ACT)?, text.as_str())))
        .collect();
    let says = |name: &str| said.iter().find(|(said, _)| *said == name);
    let ours = format!("{WORKLOAD}{workload}");
    let is_workload = said.len() == 2
        && says("iss").is_some_and(|(_, iss)| *iss == issuer)
        && says("sub").is_some_and(|(_, sub)| *sub == ours);
    let is_claimed = |claims: &Claims| {
        let mut said = said.iter();
        said.all(|(name, text)| claims.get(*name).is_some_and(|claim| claim == text))
    };
    // A name without its issuer is one in the world of the person's issuer, where nobody who proves to be
    // a workload is known.
    let is_proof = says("iss").is_some() && proof.is_some_and(is_claimed);
    said.is_empty() || is_workload || is_proof
}

/// When the person authenticated, where the token does not say and need not: when it was made.
fn made(issued: Time, auth_age: Span, now: Time) -> Result<Time, Refusal> {
    if now > issued + auth_age + Span::from_seconds(SKEW_SECONDS) {
        return Err(Refusal::new(Rule::ProofAge)
            .field("iat")
            .wanted(format!(
                "at most {auth_age} ago, where there is no `auth_time`"
            ))
            .got(format!("iat is {issued}, our clock says {now}"))
            .hint("have the provider make a fresh token"));
    }
    Ok(issued)
}

/// The rule by which the type of a token is judged.
fn rule_of(kind: PersonToken, typ: Option<&str>) -> TypRule {
    match kind {
        PersonToken::IdToken => TypRule::PlatformToken,
        PersonToken::AccessToken => TypRule::AccessToken,
        PersonToken::Jwt if TypRule::AccessToken.check(typ).is_ok() => TypRule::AccessToken,
        PersonToken::Jwt => TypRule::PlatformToken,
    }
}

fn no_people(url: &str, verifier: &Verifier) -> Refusal {
    let people = verifier.trusted.values().filter(|of| of.people().is_some());
    let people: Vec<&str> = people.map(Trusted::url).collect();
    Refusal::new(Rule::Issuer)
        .field("iss")
        .wanted(if people.is_empty() {
            "an issuer that says `people = true`".to_owned()
        } else {
            people.join(" or ")
        })
        .got(url)
        .hint("only an issuer that says `people = true` vouches for people; a job's own token is the `actor_token`")
}

/// A token that reports events (RFC 8417) says of nobody that they are there; logout tokens are often
/// sent without a type of their own (OpenID Connect Back-Channel Logout 1.0, section 2.4).
///
/// Some providers say in a claim `typ` of a token without a type of its own what it is: only an ID
/// token is one.
pub(super) fn check_kind(
    claims: &dayfly_token::claims::Claims,
    rule: TypRule,
) -> Result<(), Refusal> {
    let refuse = |field: &str, got: &str| {
        Err(Refusal::new(Rule::TokenType)
            .field(field)
            .wanted("a token that says who a person is")
            .got(got))
    };
    if claims.get("events").is_some() {
        return refuse("events", "a token that reports events");
    }
    let said = claims.get("typ").filter(|_| rule != TypRule::AccessToken);
    if said.is_some_and(|typ| typ.as_str() != Some("ID")) {
        return refuse("typ", "a token of another kind");
    }
    if claims.get("act").is_some() {
        return Err(Refusal::new(Rule::ClaimForm)
            .field("act")
            .wanted("a token that the person got")
            .got("one of somebody who acts for the person already"));
    }
    Ok(())
}

/// An ID token is made for one of our clients, and given to one of them (OpenID Connect Core 1.0,
/// section 3.1.3.7).
fn check_client(claims: &dayfly_token::claims::Claims, declared: &[String]) -> Result<(), Refusal> {
    let listed: Vec<&str> = declared.iter().map(String::as_str).collect();
    claims
        .sole_audience_of(&listed)
        .map_err(|error| explain::audience(&error))?;
    let ours = match claims.get("azp") {
        None => true,
        Some(Value::String(azp)) => declared.contains(azp),
        Some(_) => false,
    };
    if ours {
        return Ok(());
    }
    Err(explain::audience(
        &claims.error("azp", format!("`{}`", listed.join("` or `"))),
    ))
}

/// An access token without a type of its own looks like an ID token; one that a program got for
/// itself comes of no login.
fn check_login(claims: &dayfly_token::claims::Claims) -> Result<(), Refusal> {
    if OF_A_LOGIN.iter().any(|name| claims.get(name).is_some()) {
        return Ok(());
    }
    Err(Refusal::new(Rule::ClaimMissing)
        .field("auth_time")
        .wanted("`auth_time`, or another sign of a login")
        .got("none")
        .hint("have the provider say `auth_time` (`require_auth_time` of its client, or `max_age`): a token without any may be a program's own"))
}

/// A token that a program got for itself has the program as `sub` (RFC 9068, section 2.2).
fn check_not_a_client(claims: &dayfly_token::claims::Claims, sub: &str) -> Result<(), Refusal> {
    let is_sub = |value: &Value| value.as_str() == Some(sub);
    let names = |name: &&str| match claims.get(name) {
        Some(Value::Array(several)) => several.iter().any(is_sub),
        Some(one) => is_sub(one),
        None => false,
    };
    if ["client_id", "azp", "aud"].iter().any(names) {
        return Err(Refusal::new(Rule::ClaimForm)
            .field("sub")
            .wanted("a person")
            .got("the client that the token was made for"));
    }
    Ok(())
}

/// A person is no workload of this server, and stands in tokens as text.
fn check_name(claims: &dayfly_token::claims::Claims, sub: &str) -> Result<(), Refusal> {
    if sub.starts_with(WORKLOAD) {
        return Err(Refusal::new(Rule::ClaimForm)
            .field("sub")
            .wanted("a person")
            .got("the name of a workload"));
    }
    if sub.chars().any(char::is_control) {
        let wanted = format!("1 to {MAX_SUB_BYTES} bytes without control characters");
        return Err(explain::claim(&claims.error("sub", wanted)).got("control characters"));
    }
    Ok(())
}

fn bound_to(claims: &dayfly_token::claims::Claims) -> Result<Option<Bound>, Refusal> {
    let Some(cnf) = claims.get("cnf") else {
        return Ok(None);
    };
    let members = cnf
        .as_object()
        .ok_or_else(|| explain::claim(&claims.error("cnf", "an object")))?;
    let key = members.get("jkt").and_then(Value::as_str);
    let key = key.and_then(|jkt| jkt.parse().ok());
    Ok(Some(match key {
        Some(key) if members.len() == 1 => Bound::Key(key),
        Some(_) | None => Bound::Else,
    }))
}

/// Whoever may act is named by texts alone: of other members nothing, or not all, would be left once they
/// are laid flat, and the party would be a wider one.
fn check_may_act(claims: &dayfly_token::claims::Claims) -> Result<(), Refusal> {
    match claims.get("may_act") {
        None => Ok(()),
        Some(Value::Object(party))
            if party.contains_key("sub") && party.values().all(Value::is_string) =>
        {
            Ok(())
        }
        Some(_) => Err(explain::claim(
            &claims.error("may_act", "an object of texts with `sub`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://dayfly.example/acme";

    fn claims(pairs: &[(&str, &str)]) -> Claims {
        let pairs = pairs.iter();
        pairs
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn only_who_is_named_by_every_member_may_act() {
        let proof = claims(&[
            ("iss", "https://ci.example"),
            ("sub", "repo:a"),
            ("ref", "main"),
        ]);
        let workload = "assistant".parse().unwrap();
        let us = ("/may_act/iss", ISSUER);
        let ci = ("/may_act/iss", "https://ci.example");
        let sub = |sub| ("/may_act/sub", sub);
        for (party, proven, alone) in [
            (vec![], true, true),
            (vec![us, sub("workload:assistant")], true, true),
            (vec![us, sub("workload:release")], false, false),
            (
                vec![us, sub("workload:assistant"), ("/may_act/x", "y")],
                false,
                false,
            ),
            (vec![sub("workload:assistant")], false, false),
            (vec![ci, sub("repo:a")], true, false),
            (
                vec![ci, sub("repo:a"), ("/may_act/ref", "main")],
                true,
                false,
            ),
            (
                vec![ci, sub("repo:a"), ("/may_act/ref", "dev")],
                false,
                false,
            ),
            (vec![ci, sub("repo:b")], false, false),
            (vec![ci, sub("workload:assistant")], false, false),
            (vec![sub("repo:a")], false, false),
            // Where somebody has nested what should be texts, no claim of a proof has such a name.
            (vec![ci, sub("repo:a"), ("/may_act/x/0", "y")], false, false),
        ] {
            let person = claims(&[&party[..], &[("sub", "mona")]].concat());
            let lets = |proof| lets_act(&person, proof, &workload, ISSUER);
            assert_eq!(
                (lets(Some(&proof)), lets(None)),
                (proven, alone),
                "{party:?}"
            );
        }
    }
}
