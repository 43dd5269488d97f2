//! JWS, JWK, claims and DPoP as pure checks of bytes, keys and now.
//!
//! Nothing here reads a clock, a file or the network: `now` is a parameter, in
//! seconds since 1970, and keys are handed in. What was verified is a type with
//! a private constructor ([`jws::VerifiedJws`], [`jwt::VerifiedJwt`],
//! [`dpop::VerifiedDpop`], [`assertion::VerifiedAssertion`], [`handover::VerifiedHandover`],
//! [`access_token::VerifiedAccessToken`]), so that a skipped check does not
//! compile. Every error implements [`fault::Explained`] and so names rule,
//! field, wanted and got.
//!
//! # What goes wrong with tokens elsewhere, and what excludes it here
//!
//! | failure | excluded by |
//! |---|---|
//! | `alg: none`, HMAC with a public key as the secret | [`alg::Alg`] has no such variant |
//! | algorithm confusion | [`verifying_key::VerifyingKey`] holds one parsed key for each algorithm it was pinned to |
//! | a key from `jku`, `x5u`, `x5c` | never read; `jwk` is read by [`dpop`] alone |
//! | critical extensions ignored | `crit`, `zip`, `b64`, `enc` are refused in [`jws`] |
//! | one token, two readings | [`json`] refuses duplicate members, [`b64`] refuses second spellings |
//! | one kind of JWT taken for another | [`typ::TypRule`] is an allow-list |
//! | an assertion made for another server | [`claims::Claims::sole_audience`] |
//! | a changed signature that passes as a new token | tokens are named by the hash of their signing input, proofs by key and `jti` |
//! | private parts in a public key | refused in [`jwk`] |

pub mod excerpt;
pub mod fault;

pub mod b64;
pub mod hash;
pub mod json;

pub mod alg;
pub mod jwk;
pub mod jwks;
pub mod verifying_key;

pub mod claims;
pub mod jws;
pub mod jwt;
pub mod times;
pub mod typ;

pub mod access_token;
pub mod assertion;
pub mod dpop;
pub mod handover;
pub mod htu;
pub mod nonce;

pub mod client;
pub mod sign;

#[cfg(test)]
mod tests;
