//! The life of a key as pure rules: which state follows at which time, and what compromise changes.

use dayfly_domain::{Span, Time};
use dayfly_token::alg::Alg;
use serde::{Deserialize, Serialize};

/// How long whoever fetched the JWK Set may keep it: its `Cache-Control: max-age`.
pub const JWKS_MAX_AGE: Span = Span::from_seconds(300);
/// For how long a key is published before it signs: until every cached JWK Set without it is over,
/// and what other clocks may be off.
pub const PUBLISHED_FOR: Span = Span::from_seconds(JWKS_MAX_AGE.seconds() + SKEW);
/// For how long a key verifies after it has signed for the last time. No window is longer than 24 h
/// (DESIGN section 3), so no token is, whatever was declared when it was issued.
const RETIRING_FOR: Span = Span::from_seconds(86_400 + SKEW);
/// For how long a ledger key that was replaced still signs heads beside its successor, so that
/// whoever holds its verifier key has the time to take the new one.
const COSIGNING_FOR: Span = Span::from_seconds(30 * 86_400);
/// What the clocks of two machines may differ by (DESIGN section 3).
const SKEW: u64 = 60;

/// What a key signs. No key signs two kinds of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUse {
    /// Access tokens.
    Token,
    /// Status lists.
    StatusList,
    /// Security events.
    Event,
    /// Heads of the ledger.
    Ledger,
}

/// A use and an algorithm: keys of one kind follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What is signed.
    pub r#use: KeyUse,
    /// How.
    pub alg: Alg,
}

/// Where a key is in its life. What is in no state is gone: no document of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Life {
    /// Published, so that verifiers learn of it; it signs nothing yet.
    Published {
        /// Since when.
        since: Time,
    },
    /// It signs what is new of its kind.
    Signing {
        /// Since when.
        since: Time,
    },
    /// It verifies what it has signed. A ledger key still signs heads beside its successor.
    Retiring {
        /// Until when.
        until: Time,
    },
    /// A ledger key whose time is over: its public part stays, for older heads and receipts.
    Retired {
        /// Since when.
        at: Time,
    },
    /// It is not published and verifies nothing.
    Compromised {
        /// Since when.
        at: Time,
    },
}

/// What may be told of a key; nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its name: the RFC 7638 thumbprint, for a ledger key `ledger-` and the C2SP key hash.
    #[serde(default)]
    pub kid: String,
    /// What it signs.
    pub r#use: KeyUse,
    /// How it signs.
    pub alg: String,
    /// Since when there is one.
    pub created: Time,
    /// Its public part: a JWK as text, for a ledger key the C2SP verifier key.
    pub public: String,
    /// Where it is in its life.
    #[serde(flatten)]
    pub life: Life,
}

/// One step of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key is made, and begins so.
    Make(Kind, Life),
    /// A key goes on to another state.
    Turn {
        /// Which key.
        kid: String,
        /// To which state.
        to: Life,
    },
    /// The record of a key is deleted.
    Forget {
        /// Which key.
        kid: String,
    },
}

/// Why a key is not rotated or given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no key by that name.
    #[error("there is no key `{0}`: `dayfly keys list` shows those that there are")]
    Unknown(String),
    /// There is no key of that kind.
    #[error("no key of that use and algorithm signs: `dayfly keys list` shows those that do")]
    NoneSigns,
    /// The successor is published already.
    #[error("the successor `{kid}` is published already and signs from {from}")]
    Successor {
        /// The successor.
        kid: String,
        /// From when it signs.
        from: Time,
    },
}

impl Life {
    /// Whether the key stands in the JWK Set and verifies.
    #[must_use]
    pub const fn verifies(&self) -> bool {
        match self {
            Self::Published { .. } | Self::Signing { .. } | Self::Retiring { .. } => true,
            Self::Retired { .. } | Self::Compromised { .. } => false,
        }
    }

    /// Since when it is published and signs nothing yet, where that is its state.
    #[must_use]
    pub const fn published(&self) -> Option<Time> {
        match self {
            Self::Published { since } => Some(*since),
            Self::Signing { .. }
            | Self::Retiring { .. }
            | Self::Retired { .. }
            | Self::Compromised { .. } => None,
        }
    }

    /// Since when it signs, where that is its state.
    #[must_use]
    pub const fn signing(&self) -> Option<Time> {
        match self {
            Self::Signing { since } => Some(*since),
            Self::Published { .. }
            | Self::Retiring { .. }
            | Self::Retired { .. }
            | Self::Compromised { .. } => None,
        }
    }

    /// Since when it is given up, where that is its state.
    #[must_use]
    pub const fn compromised(&self) -> Option<Time> {
        match self {
            Self::Compromised { at } => Some(*at),
            Self::Published { .. }
            | Self::Signing { .. }
            | Self::Retiring { .. }
            | Self::Retired { .. } => None,
        }
    }

    /// The word for it, as it stands in records.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Published { .. } => "published",
            Self::Signing { .. } => "signing",
            Self::Retiring { .. } => "retiring",
            Self::Retired { .. } => "retired",
            Self::Compromised { .. } => "compromised",
        }
    }
}

impl KeyInfo {
    fn is_of(&self, kind: Kind) -> bool {
        self.r#use == kind.r#use && self.alg == kind.alg.as_str()
    }

    fn kind(&self) -> Option<Kind> {
        let alg = self.alg.parse().ok()?;
        Some(Kind {
            r#use: self.r#use,
            alg,
        })
    }

    fn turn(&self, to: Life) -> Step {
        Step::Turn {
            kid: self.kid.clone(),
            to,
        }
    }
}

impl KeyUse {
    /// The word for it, on command lines and in labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::StatusList => "status_list",
            Self::Event => "event",
            Self::Ledger => "ledger",
        }
    }

    /// For how long a key of this use verifies after it was replaced.
    const fn retiring_for(self) -> Span {
        match self {
            Self::Token | Self::StatusList | Self::Event => RETIRING_FOR,
            Self::Ledger => COSIGNING_FOR,
        }
    }

    /// Whether keys of this use are replaced on schedule. Auditors hold a ledger's verifier key by
    /// hand, so it changes only when somebody says so.
    const fn on_schedule(self) -> bool {
        match self {
            Self::Token | Self::StatusList | Self::Event => true,
            Self::Ledger => false,
        }
    }
}

/// What is due: keys that are wanted and missing, that were published for long enough, that signed
/// for as long as `every` says, and that need not verify any longer.
///
/// Each call is complete in itself: what an earlier one left undone, this one finds.
#[must_use]
pub fn due(keys: &[KeyInfo], wanted: &[Kind], every: Option<Span>, now: Time) -> Vec<Step> {
    let mut steps = Vec::new();
    for key in keys {
        if let Life::Retiring { until } = key.life
            && now >= until
        {
            steps.push(match key.r#use {
                KeyUse::Ledger => key.turn(Life::Retired { at: now }),
                KeyUse::Token | KeyUse::StatusList | KeyUse::Event => Step::Forget {
                    kid: key.kid.clone(),
                },
            });
        }
    }
    let mut kinds = wanted.to_vec();
    for kind in keys.iter().filter_map(KeyInfo::kind) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for kind in kinds {
        follow(keys, kind, wanted.contains(&kind), every, now, &mut steps);
    }
    steps
}

/// What is due among the keys of one kind.
fn follow(
    keys: &[KeyInfo],
    kind: Kind,
    wanted: bool,
    every: Option<Span>,
    now: Time,
    steps: &mut Vec<Step>,
) {
    let of_kind = || keys.iter().filter(|key| key.is_of(kind));
    let published = of_kind().find_map(|key| Some((key, key.life.published()?)));
    let signing = of_kind().find_map(|key| Some((key, key.life.signing()?)));
    let retire = |key: &KeyInfo| {
        key.turn(Life::Retiring {
            until: now + kind.r#use.retiring_for(),
        })
    };
    let begin = Life::Signing { since: now };
    match (signing, published) {
        // Nothing signs, so there is nothing to wait for: verifiers fetch on an unknown `kid`.
        (None, Some((next, _))) => steps.push(next.turn(begin)),
        (None, None) if wanted => steps.push(Step::Make(kind, begin)),
        (None, None) => {}
        (Some((old, _)), Some((next, since))) if now >= since + PUBLISHED_FOR => {
            steps.push(next.turn(begin));
            steps.push(retire(old));
        }
        (Some((old, since)), None)
            if kind.r#use.on_schedule() && every.is_some_and(|every| now >= since + every) =>
        {
            steps.push(if wanted {
                Step::Make(kind, Life::Published { since: now })
            } else {
                retire(old)
            });
        }
        (Some(_), Some(_) | None) => {}
    }
}

/// Publishes a successor for each key of this use (and algorithm, where one is named) that signs.
///
/// # Errors
/// [`ChangeError`]: none signs, or a successor is there.
pub fn rotate(
    keys: &[KeyInfo],
    r#use: KeyUse,
    alg: Option<Alg>,
    now: Time,
) -> Result<Vec<Step>, ChangeError> {
    let mut steps = Vec::new();
    let is_meant =
        |key: &&KeyInfo| key.r#use == r#use && alg.is_none_or(|alg| key.alg == alg.as_str());
    for key in keys.iter().filter(is_meant) {
        match (key.life, key.kind()) {
            (Life::Signing { .. }, Some(kind)) => {
                steps.push(Step::Make(kind, Life::Published { since: now }));
            }
            (Life::Published { since }, _) => {
                return Err(ChangeError::Successor {
                    kid: key.kid.clone(),
                    from: since + PUBLISHED_FOR,
                });
            }
            (
                Life::Signing { .. }
                | Life::Retiring { .. }
                | Life::Retired { .. }
                | Life::Compromised { .. },
                _,
            ) => {}
        }
    }
    if steps.is_empty() {
        return Err(ChangeError::NoneSigns);
    }
    Ok(steps)
}

/// Gives keys up at once; a successor that is published, or else a fresh key, signs from now on.
/// A key that was given up already stays as it is.
///
/// # Errors
/// [`ChangeError::Unknown`], and then nothing changes.
pub fn compromise(
    keys: &[KeyInfo],
    kids: &[String],
    wanted: &[Kind],
    now: Time,
) -> Result<Vec<Step>, ChangeError> {
    let mut after = keys.to_vec();
    let mut steps = Vec::new();
    for kid in kids {
        let key = after
            .iter_mut()
            .find(|key| key.kid == *kid)
            .ok_or_else(|| ChangeError::Unknown(kid.clone()))?;
        if key.life.compromised().is_none() {
            key.life = Life::Compromised { at: now };
            steps.push(key.turn(key.life));
        }
    }
    steps.extend(due(&after, wanted, None, now));
    Ok(steps)
}

/// What becomes of the keys that a backup brings back: which of them were given up or replaced since
/// it was made is not known, so none of them signs or verifies tokens any more. A ledger key that
/// has signed leaves its public part, for older heads and receipts.
#[must_use]
pub(super) fn restored(keys: &[KeyInfo], now: Time) -> Vec<Step> {
    keys.iter()
        .filter_map(|key| match (key.r#use, key.life) {
            (_, Life::Retired { .. } | Life::Compromised { .. }) => None,
            (KeyUse::Ledger, Life::Signing { .. } | Life::Retiring { .. }) => {
                Some(key.turn(Life::Retired { at: now }))
            }
            (KeyUse::Ledger, Life::Published { .. })
            | (
                KeyUse::Token | KeyUse::StatusList | KeyUse::Event,
                Life::Published { .. } | Life::Signing { .. } | Life::Retiring { .. },
            ) => Some(Step::Forget {
                kid: key.kid.clone(),
            }),
        })
        .collect()
}

/// Until when somebody who verifies offline and heeds the JWK Set's `max-age` may accept what was
/// signed by a key that was given up at `at`; `gone` is when the published set was without it.
#[must_use]
pub fn accepted_offline_until(at: Time, gone: Time) -> Time {
    (at + PUBLISHED_FOR).max(gone + JWKS_MAX_AGE)
}
