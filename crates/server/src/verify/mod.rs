//! Proofs: platform tokens verified by the keys of declared issuers, each turned into a value that only this module makes.
//!
//! | attack | excluded by |
//! |---|---|
//! | a token of an issuer nobody declared | `iss` is looked up before anything is fetched or computed |
//! | keys that a token brings along | keys come only from where the issuer's declaration says |
//! | an access token, logout token or status list taken for a proof | the type is on an allow-list |
//! | a token made for another server | `aud` has exactly one value, and it is ours ([`Entrance`]) |
//! | a captured token shown again | [`VerifiedProof::one_time_key`], by a digest that a second spelling of the signature leaves as it is |
//! | a token kept for later | the age bound, beside `exp` |
//! | a person's token got by refreshing, long after the person | `auth_time` is demanded and bounded |
//! | a person's token shown by or for somebody else than who acts | `subject` has a table of its own |
//! | a claim that stands in another's place | claims are laid flat under names that cannot meet |
//! | keys fetched from inside the network | addresses are judged after resolving, redirects are not followed |
//! | a flood of unknown `kid`s | one attempt at a time and one within the floor, for each origin ([`KeyCache`]) |
//! | the token of a pod that is gone | the cluster itself is asked, where its issuer says so |
//! | an issuer that is down | keys count for a day after they were read |

pub mod signal;
mod verifier;
pub mod webhook;

mod person;
mod pseudonym;
mod subject;

mod details;
mod entrance;
mod flatten;
mod kind;
mod proof;

mod keys;
mod origin;
mod preview;
mod review;

mod address;
mod fetch;

mod explain;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use details::{details, raw, scopes};
pub use entrance::{Entrance, Recipient};
pub(crate) use fetch::{FetchError, check_sink, explain as unsent, sink_client};

pub use explain::{assertion, credential, handover, key_proof};
pub(crate) use keys::chain;
pub use keys::{KeyCache, KeyStatus};
pub use person::{People, VerifiedPerson};
pub use preview::{Preview, preview};
pub(crate) use proof::Unvouched;
pub use proof::VerifiedProof;
pub(crate) use pseudonym::PERSON;
pub use pseudonym::Pseudonyms;
pub use review::ReviewStatus;
pub(crate) use review::{AGAIN_AT_ONCE, PATIENCE, PodToken, is_placeless, placeless};
pub use signal::{Receiver, VerifiedSignal};
pub(crate) use subject::lets_act;
pub use subject::{PersonToken, Showing, VerifiedSubject};
pub use verifier::{ProofBounds, Verifier};
pub use webhook::VerifiedWebhook;
