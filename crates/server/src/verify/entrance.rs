//! By which parameter a platform's token comes in, and for whom it must then be made.

use crate::declared::{Issuer, usual_audiences};

/// By which parameter of a token request a platform's token comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entrance {
    /// `client_assertion`: it authenticates the client (RFC 7523, section 2.2).
    ClientAssertion,
    /// `assertion`: it is the grant (RFC 7523, section 2.1).
    Assertion,
    /// `subject_token`: it is exchanged (RFC 8693, section 2.1).
    SubjectToken,
    /// `actor_token`: whoever shows it acts for another (RFC 8693, section 2.1).
    ActorToken,
}

/// Whom tokens must be made for: one tenant of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The tenant's issuer URL.
    pub issuer: String,
    /// The URL of the tenant's token endpoint.
    pub token_endpoint: String,
}

impl Recipient {
    /// The values of which `aud` must have exactly one: what is declared for the issuer, else by
    /// the entrance.
    ///
    /// As client authentication only the tenant's issuer URL counts, because an endpoint can be
    /// one that another server's metadata names (RFC 10070). A grant may also name the token
    /// endpoint (RFC 7523, section 3) or the issuer URL with a slash at its end, which widespread
    /// libraries append.
    pub(super) fn audiences(&self, issuer: &Issuer, entrance: Entrance) -> Vec<String> {
        if let Some(declared) = &issuer.audience {
            return declared.clone();
        }
        match entrance {
            Entrance::ClientAssertion => vec![self.issuer.clone()],
            Entrance::Assertion | Entrance::SubjectToken | Entrance::ActorToken => {
                usual_audiences(&self.issuer)
            }
        }
    }
}
