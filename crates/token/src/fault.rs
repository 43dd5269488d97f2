//! One shape for what a failed check wanted and got, so that a refusal can name it without knowing each error type.

use std::borrow::Cow;

use crate::excerpt::Excerpt;

/// Every error of this crate that a caller can cause.
pub trait Explained: std::error::Error {
    /// Rule, field, wanted and got of the failed check.
    fn fault(&self) -> Fault;
}

/// The material of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable name of the rule, for example `jws.alg`.
    pub rule: &'static str,
    /// The claim, header member or part that the rule looked at.
    pub field: Cow<'static, str>,
    /// What the rule wanted.
    pub wanted: Cow<'static, str>,
    /// What was found.
    pub got: Excerpt,
}

impl Fault {
    pub(crate) fn new(
        rule: &'static str,
        field: impl Into<Cow<'static, str>>,
        wanted: impl Into<Cow<'static, str>>,
        got: Excerpt,
    ) -> Self {
        Self {
            rule,
            field: field.into(),
            wanted: wanted.into(),
            got,
        }
    }
}
