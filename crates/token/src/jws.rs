//! Reads and verifies compact JWS (RFC 7515), keeping what was verified apart from what was only read.

use serde_json::{Map, Value};

use crate::alg::{self, Alg, UnknownAlg};
use crate::b64;
use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};
use crate::hash::{Thumbprint, sha256};
use crate::json::{self, JsonError};
use crate::jwks::KeySet;
use crate::verifying_key::VerifyingKey;

/// Length in bytes to which an inbound token is read where nothing else is configured.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A JWS that was read and not yet verified; only the header is open.
#[derive(Clone, Debug)]
pub struct Jws<'a> {
    header: Header,
    payload: Vec<u8>,
    signing_input: &'a str,
    signature: Vec<u8>,
}

/// The header members that Dayfly looks at; `jku`, `x5u`, `x5c` and unknown ones are never read.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The algorithm.
    pub alg: Alg,
    /// Names the key; a hint, never a fact.
    pub kid: Option<String>,
    /// The explicit type, as sent; see [`crate::typ::TypRule`].
    pub typ: Option<String>,
    /// A key that the sender brings along; proves possession, never identity.
    pub jwk: Option<Map<String, Value>>,
}

/// A JWS whose signature was verified.
#[derive(Clone, Debug)]
pub struct VerifiedJws {
    header: Header,
    payload: Vec<u8>,
    signing_input_hash: [u8; 32],
    key: Thumbprint,
}

impl<'a> Jws<'a> {
    /// Reads a compact JWS of at most `max_bytes` bytes.
    ///
    /// Refused: anything but three parts, second spellings of base64url, duplicate header members, unknown
    /// algorithms, and `crit`, `zip`, `b64`, `enc` whatever their value.
    pub fn parse(token: &'a str, max_bytes: usize) -> Result<Self, JwsError> {
        if token.len() > max_bytes {
            return Err(JwsError::TooLong {
                max_bytes,
                bytes: token.len(),
            });
        }
        let (signing_input, header, payload, signature) = parts(token)?;
        let header = decode("header", header)?;
        let header = Header::parse(json::object(&header).map_err(JwsError::Header)?)?;
        let payload = decode("payload", payload)?;
        let signature = decode("signature", signature)?;
        Ok(Self {
            header,
            payload,
            signing_input,
            signature,
        })
    }

    /// The header, as the sender wrote it.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// SHA-256 of the signing input, which names the token whatever its signature.
    #[must_use]
    pub fn signing_input_hash(&self) -> [u8; 32] {
        sha256(self.signing_input.as_bytes())
    }

    /// Verifies by one key, with the algorithms it is pinned to.
    pub fn verify(self, key: &VerifyingKey) -> Result<VerifiedJws, JwsError> {
        let key = self.check(key)?;
        Ok(self.into_verified(key))
    }

    /// Verifies by a key of the set: one with the header's `kid`, or any where there is none, and pinned to the
    /// header's `alg`, which `allowed` must list.
    pub fn verify_with(self, keys: &KeySet, allowed: &[Alg]) -> Result<VerifiedJws, JwsError> {
        let key = self.check_with(keys, allowed)?;
        Ok(self.into_verified(key))
    }

    /// The payload, for a reader that promises to let out nothing of it as verified.
    pub(crate) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn check(&self, key: &VerifyingKey) -> Result<Thumbprint, JwsError> {
        let alg = self.header.alg;
        if !key.allows(alg) {
            return Err(JwsError::NoKey {
                alg,
                kid: Excerpt::of_option(self.header.kid.as_deref()),
            });
        }
        match key.verify(alg, self.signing_input.as_bytes(), &self.signature) {
            Ok(()) => Ok(key.thumbprint()),
            Err(_) => Err(JwsError::Signature),
        }
    }

    pub(crate) fn check_with(
        &self,
        keys: &KeySet,
        allowed: &[Alg],
    ) -> Result<Thumbprint, JwsError> {
        let alg = self.header.alg;
        if !allowed.contains(&alg) {
            return Err(JwsError::AlgNotAllowed {
                alg,
                allowed: alg::names(allowed),
            });
        }
        let kid = self.header.kid.as_deref();
        if let Some(unknown) = kid.filter(|kid| !keys.knows(kid)) {
            return Err(JwsError::UnknownKid {
                kid: Excerpt::of(unknown),
            });
        }
        let mut outcome = JwsError::NoKey {
            alg,
            kid: Excerpt::of_option(kid),
        };
        for key in keys.select(kid, alg) {
            match self.check(key) {
                Ok(thumbprint) => return Ok(thumbprint),
                Err(error) => outcome = error,
            }
        }
        Err(outcome)
    }

    pub(crate) fn into_header(self) -> Header {
        self.header
    }

    fn into_verified(self, key: Thumbprint) -> VerifiedJws {
        let signing_input_hash = self.signing_input_hash();
        VerifiedJws {
            header: self.header,
            payload: self.payload,
            signing_input_hash,
            key,
        }
    }
}

impl Header {
    fn parse(mut members: Map<String, Value>) -> Result<Self, JwsError> {
        const REFUSED: [&str; 4] = ["crit", "zip", "b64", "enc"];
        if let Some(member) = REFUSED
            .into_iter()
            .find(|member| members.contains_key(*member))
        {
            return Err(JwsError::RefusedMember { member });
        }
        let alg = text(&members, "alg")?.ok_or(JwsError::Member {
            member: "alg",
            wanted: "a string",
            got: Excerpt::absent(),
        })?;
        let alg = alg.parse()?;
        let kid = text(&members, "kid")?.map(str::to_owned);
        let typ = text(&members, "typ")?.map(str::to_owned);
        let jwk = match members.remove("jwk") {
            None => None,
            Some(Value::Object(jwk)) => Some(jwk),
            Some(other) => return Err(JwsError::member("jwk", "an object", &other)),
        };
        Ok(Self { alg, kid, typ, jwk })
    }
}

impl VerifiedJws {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the signing input, which names the token whatever its signature.
    #[must_use]
    pub fn signing_input_hash(&self) -> [u8; 32] {
        self.signing_input_hash
    }

    /// Thumbprint of the key that verified.
    #[must_use]
    pub fn key(&self) -> Thumbprint {
        self.key
    }
}

/// Why a JWS was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than allowed.
    #[error("token has {bytes} bytes, at most {max_bytes} are read")]
    TooLong {
        /// The bound.
        max_bytes: usize,
        /// The length.
        bytes: usize,
    },
    /// Not three parts; an encrypted token has five.
    #[error("token has {parts} parts, a signed one has three")]
    Parts {
        /// How many.
        parts: usize,
    },
    /// A part is not canonical base64url.
    #[error("token {part} is not canonical base64url")]
    Encoding {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// The header is not one strict JSON object.
    #[error("token header is malformed: {0}")]
    Header(JsonError),
    /// A header member of the wrong type, or missing.
    #[error("token header member `{member}` must be {wanted}, got {got}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        got: Excerpt,
    },
    /// A header member that changes how a token must be read.
    #[error("token header member `{member}` is never accepted")]
    RefusedMember {
        /// Its name.
        member: &'static str,
    },
    /// An algorithm that is never accepted.
    #[error(transparent)]
    UnknownAlg(#[from] UnknownAlg),
    /// An algorithm that is not accepted here.
    #[error("algorithm `{alg}` is not among the accepted `{allowed}`")]
    AlgNotAllowed {
        /// The token's.
        alg: Alg,
        /// The accepted ones.
        allowed: String,
    },
    /// No usable key carries the token's `kid`; the key set may be out of date.
    #[error("no key has the `kid` {kid}")]
    UnknownKid {
        /// The token's.
        kid: Excerpt,
    },
    /// No key may be used with the token's algorithm.
    #[error("no key for algorithm `{alg}` and `kid` {kid}")]
    NoKey {
        /// The token's algorithm.
        alg: Alg,
        /// The token's `kid`.
        kid: Excerpt,
    },
    /// The signature does not verify.
    #[error("token signature does not verify")]
    Signature,
}

impl JwsError {
    fn member(member: &'static str, wanted: &'static str, got: &Value) -> Self {
        Self::Member {
            member,
            wanted,
            got: Excerpt::of_json(got),
        }
    }
}

impl Explained for JwsError {
    fn fault(&self) -> Fault {
        let number = |n: &usize| Excerpt::of(&n.to_string());
        match self {
            Self::TooLong { max_bytes, bytes } => Fault::new(
                "jws.length",
                "token",
                format!("at most {max_bytes} bytes"),
                number(bytes),
            ),
            Self::Parts { parts } => Fault::new("jws.parts", "token", "three parts", number(parts)),
            Self::Encoding { part } => {
                let got = Excerpt::of("another encoding");
                Fault::new("jws.encoding", *part, "canonical base64url", got)
            }
            Self::Header(error) => Fault {
                field: "header".into(),
                ..error.fault()
            },
            Self::Member {
                member,
                wanted,
                got,
            } => Fault::new("jws.member", *member, *wanted, got.clone()),
            Self::RefusedMember { member } => Fault::new(
                "jws.refused_member",
                *member,
                "absent",
                Excerpt::of("present"),
            ),
            Self::UnknownAlg(error) => error.fault(),
            Self::AlgNotAllowed { alg, allowed } => {
                Fault::new("jws.alg", "alg", allowed.clone(), Excerpt::of(alg.as_str()))
            }
            Self::UnknownKid { kid } => {
                Fault::new("jws.kid", "kid", "a key of the issuer", kid.clone())
            }
            Self::NoKey { alg, .. } => {
                let wanted = "an algorithm that a key of this `kid` is for";
                Fault::new("jws.key", "alg", wanted, Excerpt::of(alg.as_str()))
            }
            Self::Signature => {
                let got = Excerpt::of("one that does not verify");
                Fault::new("jws.signature", "signature", "a signature by the key", got)
            }
        }
    }
}

/// Signing input, header, payload, signature (RFC 7515 section 7.1).
fn parts(token: &str) -> Result<(&str, &str, &str, &str), JwsError> {
    let wrong = || JwsError::Parts {
        parts: token.split('.').count(),
    };
    let (signing_input, signature) = token.rsplit_once('.').ok_or_else(wrong)?;
    let (header, payload) = signing_input.split_once('.').ok_or_else(wrong)?;
    if payload.contains('.') {
        return Err(wrong());
    }
    Ok((signing_input, header, payload, signature))
}

fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, JwsError> {
    b64::decode(text).map_err(|_| JwsError::Encoding { part })
}

fn text<'a>(
    members: &'a Map<String, Value>,
    member: &'static str,
) -> Result<Option<&'a str>, JwsError> {
    match members.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(JwsError::member(member, "a string", other)),
    }
}
