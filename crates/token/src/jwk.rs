//! Reads public keys in JWK form, refusing what is private, weak, ambiguous or not meant for
//! signatures (RFC 7517, RFC 7518 section 6, RFC 8037).

use core::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey};
use serde_json::{Map, Value};

use crate::alg::{self, Alg};
use crate::b64;
use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};
use crate::hash::{Thumbprint, sha256};
use crate::json::{self, JsonError};

/// A public key that can verify signatures.
///
/// Two are equal when their key material is; `kid` and `alg` only label it.
#[derive(Clone)]
pub struct PublicJwk {
    kid: Option<String>,
    own_alg: Option<Alg>,
    material: Material,
    canonical: String,
    thumbprint: Thumbprint,
}

/// The key itself. Curve keys are parsed (and thereby checked) here; an RSA key is parsed once for
/// each algorithm it is pinned to.
#[derive(Clone)]
pub(crate) enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(ParsedPublicKey),
    P384(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

impl PublicJwk {
    /// Smallest RSA modulus accepted (RFC 7518 section 3.3).
    pub const RSA_MIN_BITS: usize = 2048;
    /// Largest RSA modulus accepted, a bound on the work of one verification.
    pub const RSA_MAX_BITS: usize = 8192;

    /// Reads a JWK; unknown members are ignored (RFC 7517 section 4), `x5u` and `x5c` among them.
    pub fn parse(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        refuse_private_members(jwk)?;
        refuse_other_uses(jwk)?;
        let own_alg = own_alg(jwk)?;
        let (material, canonical) = match required(jwk, "kty")? {
            "RSA" => rsa(jwk)?,
            "EC" => elliptic(jwk)?,
            "OKP" => octet_key_pair(jwk)?,
            _ => return Err(JwkError::unsupported(jwk, "kty", "RSA, EC or OKP")),
        };
        if own_alg.is_some_and(|alg| !material.fits(alg)) {
            return Err(JwkError::unsupported(
                jwk,
                "alg",
                "an algorithm of the key's own type",
            ));
        }
        let thumbprint = Thumbprint(sha256(canonical.as_bytes()));
        let kid = optional(jwk, "kid")?.map(str::to_owned);
        Ok(Self {
            kid,
            own_alg,
            material,
            canonical,
            thumbprint,
        })
    }

    /// Reads a JWK from its JSON text.
    pub fn from_json(text: &[u8]) -> Result<Self, JwkError> {
        Self::parse(&json::object(text)?)
    }

    /// The key's own `kid`.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether the key may be used with `alg`: its type fits, and its own `alg`, if any, is the same.
    #[must_use]
    pub fn fits(&self, alg: Alg) -> bool {
        self.material.fits(alg) && self.own_alg.is_none_or(|own| own == alg)
    }

    /// The required members in lexicographic order without whitespace (RFC 7638 section 3).
    #[must_use]
    pub fn canonical_json(&self) -> &str {
        &self.canonical
    }

    /// SHA-256 of the canonical form (RFC 7638 section 3).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// The key as a JWK Set shows it: canonical members, `kid`, `alg` and `use: sig`.
    #[must_use]
    pub fn published(&self, kid: &str, alg: Alg) -> Map<String, Value> {
        let mut members = json::object(self.canonical.as_bytes()).unwrap_or_default();
        members.insert("kid".to_owned(), kid.into());
        members.insert("alg".to_owned(), alg.as_str().into());
        members.insert("use".to_owned(), "sig".into());
        members
    }

    pub(crate) fn material(&self) -> &Material {
        &self.material
    }
}

impl PartialEq for PublicJwk {
    fn eq(&self, other: &Self) -> bool {
        self.thumbprint == other.thumbprint
    }
}

impl Eq for PublicJwk {}

impl fmt::Debug for PublicJwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicJwk")
            .field("kid", &self.kid)
            .field("alg", &self.own_alg)
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

impl Material {
    fn fits(&self, alg: Alg) -> bool {
        use Alg::{Ed25519, EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa { .. } => matches!(alg, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Self::P256(_) => alg == Es256,
            Self::P384(_) => alg == Es384,
            Self::Ed25519(_) => matches!(alg, EdDsa | Ed25519),
        }
    }
}

/// Why a JWK is not a usable public verification key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not one strict JSON object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A private or symmetric member.
    #[error("key carries the private member `{member}`")]
    Private {
        /// Its name.
        member: &'static str,
    },
    /// A member is missing, has the wrong type, or a value that is not supported.
    #[error("key member `{member}` must be {wanted}, got {got}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        got: Excerpt,
    },
    /// The right type and encoding, but no sound key: off the curve, weak, or of small order.
    #[error("key is not sound: {reason}")]
    Unsound {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No algorithm is both allowed and fit for the key.
    #[error("key fits none of the allowed algorithms `{allowed}`")]
    NoAlg {
        /// The allowed ones.
        allowed: String,
    },
}

impl JwkError {
    fn unsupported(jwk: &Map<String, Value>, member: &'static str, wanted: &'static str) -> Self {
        let got = jwk
            .get(member)
            .map_or_else(Excerpt::absent, Excerpt::of_json);
        Self::Member {
            member,
            wanted,
            got,
        }
    }

    pub(crate) fn no_alg(allowed: &[Alg]) -> Self {
        Self::NoAlg {
            allowed: alg::names(allowed),
        }
    }
}

impl Explained for JwkError {
    fn fault(&self) -> Fault {
        match self {
            Self::Json(error) => error.fault(),
            Self::Private { member } => Fault::new(
                "jwk.private",
                *member,
                "a public key",
                Excerpt::of("a private member"),
            ),
            Self::Member {
                member,
                wanted,
                got,
            } => Fault::new("jwk.member", *member, *wanted, got.clone()),
            Self::Unsound { reason } => Fault::new(
                "jwk.sound",
                "jwk",
                "a sound public key",
                Excerpt::of(reason),
            ),
            Self::NoAlg { allowed } => Fault::new(
                "jwk.alg",
                "jwk",
                allowed.clone(),
                Excerpt::of("a key of another type"),
            ),
        }
    }
}

/// RFC 7518 sections 6.2.2, 6.3.2 and 6.4, RFC 8037 section 2; `priv` is the private member of the `AKP` type.
fn refuse_private_members(jwk: &Map<String, Value>) -> Result<(), JwkError> {
    const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];
    match PRIVATE.into_iter().find(|member| jwk.contains_key(*member)) {
        Some(member) => Err(JwkError::Private { member }),
        None => Ok(()),
    }
}

/// RFC 7517 sections 4.2 and 4.3: a key that names its use is used for that alone.
fn refuse_other_uses(jwk: &Map<String, Value>) -> Result<(), JwkError> {
    if jwk.get("use").is_some_and(|value| value != "sig") {
        return Err(JwkError::unsupported(jwk, "use", "`sig` or absent"));
    }
    let verifies = |value: &Value| match value.as_array() {
        Some(list) => list.iter().all(Value::is_string) && list.iter().any(|op| op == "verify"),
        None => false,
    };
    match jwk.get("key_ops") {
        Some(value) if !verifies(value) => Err(JwkError::unsupported(
            jwk,
            "key_ops",
            "a list with `verify`, or absent",
        )),
        Some(_) | None => Ok(()),
    }
}

fn own_alg(jwk: &Map<String, Value>) -> Result<Option<Alg>, JwkError> {
    let Some(name) = optional(jwk, "alg")? else {
        return Ok(None);
    };
    match name.parse() {
        Ok(alg) => Ok(Some(alg)),
        Err(_) => Err(JwkError::unsupported(
            jwk,
            "alg",
            "a known signature algorithm",
        )),
    }
}

/// RFC 7518 section 6.3.1.
fn rsa(jwk: &Map<String, Value>) -> Result<(Material, String), JwkError> {
    let n = positive_integer(jwk, "n")?;
    let e = positive_integer(jwk, "e")?;
    let bits = bit_length(&n);
    if bits < PublicJwk::RSA_MIN_BITS {
        return Err(JwkError::Unsound {
            reason: "RSA modulus is shorter than 2048 bits",
        });
    }
    if bits > PublicJwk::RSA_MAX_BITS {
        return Err(JwkError::Unsound {
            reason: "RSA modulus is longer than 8192 bits",
        });
    }
    if is_even(&n) {
        return Err(JwkError::Unsound {
            reason: "RSA modulus is even",
        });
    }
    if is_even(&e) || bit_length(&e) < 2 || bit_length(&e) > 32 {
        return Err(JwkError::Unsound {
            reason: "RSA exponent is not odd and between 3 and 2^32",
        });
    }
    let canonical = format!(
        r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
        b64::encode(&e),
        b64::encode(&n)
    );
    Ok((Material::Rsa { n, e }, canonical))
}

/// RFC 7518 section 6.2.1; coordinates have the full length of the field.
fn elliptic(jwk: &Map<String, Value>) -> Result<(Material, String), JwkError> {
    let crv = required(jwk, "crv")?;
    let (length, algorithm): (usize, &'static signature::EcdsaVerificationAlgorithm) = match crv {
        "P-256" => (32, &signature::ECDSA_P256_SHA256_FIXED),
        "P-384" => (48, &signature::ECDSA_P384_SHA384_FIXED),
        _ => return Err(JwkError::unsupported(jwk, "crv", "P-256 or P-384")),
    };
    let x = bytes_of_length(jwk, "x", length)?;
    let y = bytes_of_length(jwk, "y", length)?;
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = ParsedPublicKey::new(algorithm, point).map_err(|_| JwkError::Unsound {
        reason: "point is not on the curve",
    })?;
    let (x, y) = (b64::encode(x), b64::encode(y));
    let canonical = format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let material = if crv == "P-256" {
        Material::P256(key)
    } else {
        Material::P384(key)
    };
    Ok((material, canonical))
}

/// RFC 8037 section 2.
fn octet_key_pair(jwk: &Map<String, Value>) -> Result<(Material, String), JwkError> {
    if required(jwk, "crv")? != "Ed25519" {
        return Err(JwkError::unsupported(jwk, "crv", "Ed25519"));
    }
    let x = bytes_of_length(jwk, "x", 32)?;
    refuse_weak_ed25519(&x)?;
    let key = ParsedPublicKey::new(&signature::ED25519, &x).map_err(|_| JwkError::Unsound {
        reason: "not an Ed25519 key",
    })?;
    let canonical = format!(
        r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
        b64::encode(x)
    );
    Ok((Material::Ed25519(key), canonical))
}

/// Refuses points of small order, under which one signature fits many messages, and second spellings
/// of a point, which would give one key two thumbprints (RFC 8032 section 5.1.3).
fn refuse_weak_ed25519(x: &[u8]) -> Result<(), JwkError> {
    // y of the points of order 8; those of order 1, 2 and 4 have y = 1, -1 and 0.
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut y = x.to_vec();
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    // p = 2^255 - 19 is ed ff … ff 7f; -1 is the value just below it.
    let (first, rest) = y.split_first().unwrap_or((&0, &[]));
    let (last, middle) = rest.split_last().unwrap_or((&0, &[]));
    let near_p = *last == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    let zero_or_one = *first <= 1 && rest.iter().all(|byte| *byte == 0);
    if near_p && *first >= 0xed {
        return Err(JwkError::Unsound {
            reason: "Ed25519 key is not canonical",
        });
    }
    if zero_or_one || (near_p && *first == 0xec) || ORDER_8.iter().any(|bad| y == bad) {
        return Err(JwkError::Unsound {
            reason: "Ed25519 key is of small order",
        });
    }
    Ok(())
}

fn required<'a>(jwk: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, JwkError> {
    optional(jwk, member)?.ok_or_else(|| JwkError::unsupported(jwk, member, "a string"))
}

fn optional<'a>(
    jwk: &'a Map<String, Value>,
    member: &'static str,
) -> Result<Option<&'a str>, JwkError> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JwkError::unsupported(jwk, member, "a string")),
    }
}

fn bytes_of_length(
    jwk: &Map<String, Value>,
    member: &'static str,
    length: usize,
) -> Result<Vec<u8>, JwkError> {
    let bytes = b64::decode(required(jwk, member)?)
        .ok()
        .filter(|bytes| bytes.len() == length);
    bytes.ok_or_else(|| {
        JwkError::unsupported(
            jwk,
            member,
            "canonical base64url of the field's full length",
        )
    })
}

/// RFC 7518 section 2, Base64urlUInt: the shortest big-endian form.
fn positive_integer(jwk: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, JwkError> {
    let bytes = b64::decode(required(jwk, member)?).ok();
    let shortest = bytes.filter(|bytes| bytes.first().is_some_and(|byte| *byte != 0));
    shortest.ok_or_else(|| {
        JwkError::unsupported(jwk, member, "canonical base64url of a positive integer")
    })
}

fn bit_length(integer: &[u8]) -> usize {
    let unused = integer
        .first()
        .map_or(0, |byte| byte.leading_zeros() as usize);
    (integer.len() * 8).saturating_sub(unused)
}

fn is_even(integer: &[u8]) -> bool {
    integer.last().is_none_or(|byte| byte % 2 == 0)
}
