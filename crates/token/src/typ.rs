//! Keeps one kind of JWT from being taken for another, by its explicit type (RFC 8725 section 3.11).

use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};

/// Which explicit types a place accepts; whatever is not listed is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypRule {
    /// A client's own assertion: `client-authentication+jwt`, or untyped as older libraries send it (RFC 10070).
    ClientAssertion,
    /// A platform's token: untyped, as every CI platform and SPIFFE send it.
    PlatformToken,
    /// An access token: `at+jwt` alone (RFC 9068 section 4).
    AccessToken,
    /// A proof of possession: `dpop+jwt` alone (RFC 9449 section 4.2).
    DpopProof,
    /// Exactly this type, in lower case and without `application/`.
    Exactly(&'static str),
}

impl TypRule {
    /// Checks the header's `typ`: case does not count, `application/` in front is implied (RFC 7515 section 4.1.9).
    pub fn check(self, typ: Option<&str>) -> Result<(), TypError> {
        let fits = match typ.map(normalised) {
            None => self.accepts_untyped(),
            Some(typ) => self.accepts(&typ),
        };
        if fits {
            Ok(())
        } else {
            Err(TypError {
                rule: self,
                got: Excerpt::of_option(typ),
            })
        }
    }

    fn accepts_untyped(self) -> bool {
        match self {
            Self::ClientAssertion | Self::PlatformToken => true,
            Self::AccessToken | Self::DpopProof | Self::Exactly(_) => false,
        }
    }

    fn accepts(self, typ: &str) -> bool {
        match self {
            Self::ClientAssertion => matches!(typ, "client-authentication+jwt" | "jwt"),
            Self::PlatformToken => matches!(typ, "jwt" | "jose"),
            Self::AccessToken => typ == "at+jwt",
            Self::DpopProof => typ == "dpop+jwt",
            Self::Exactly(only) => typ == only,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::ClientAssertion => "client-authentication+jwt, JWT or absent",
            Self::PlatformToken => "JWT, JOSE or absent",
            Self::AccessToken => "at+jwt",
            Self::DpopProof => "dpop+jwt",
            Self::Exactly(only) => only,
        }
    }
}

/// A JWT of another kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token header member `typ` must be {}, got {got}", rule.wanted())]
pub struct TypError {
    /// The rule.
    pub rule: TypRule,
    /// The type sent.
    pub got: Excerpt,
}

impl Explained for TypError {
    fn fault(&self) -> Fault {
        Fault::new("typ", "typ", self.rule.wanted(), self.got.clone())
    }
}

fn normalised(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(subtype) => subtype.to_owned(),
        None => lower,
    }
}
