//! A refusal: an explained no, with one vocabulary of rules for the whole product.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// An explained no. The caller sees stage, rule, field and its own `got`; operator and owner see
/// everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The rule that said no.
    pub rule: Rule,
    /// What the rule looked at: a parameter, a claim or a part of the declared state.
    pub field: Box<str>,
    /// What would have passed.
    pub wanted: Box<str>,
    /// What the caller brought.
    pub got: Box<str>,
    /// What the person who reads this may do about it; may be empty.
    pub hint: Box<str>,
    /// After how long the same request may pass, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
}

impl Refusal {
    /// A refusal by this rule, with nothing said yet.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            field: "".into(),
            wanted: "".into(),
            got: "".into(),
            hint: "".into(),
            retry_after: None,
        }
    }

    /// Names what the rule looked at.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = field.into().into();
        self
    }

    /// Says what would have passed.
    #[must_use]
    pub fn wanted(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = wanted.into().into();
        self
    }

    /// Says what the caller brought.
    #[must_use]
    pub fn got(mut self, got: impl Into<String>) -> Self {
        self.got = got.into().into();
        self
    }

    /// Says after how long the same request may pass.
    #[must_use]
    pub const fn retry_after(mut self, span: Span) -> Self {
        self.retry_after = Some(span);
        self
    }

    /// Says what may be done about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into().into();
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.stage().code(), self.rule.says())?;
        if !self.field.is_empty() {
            write!(f, " (`{}`)", self.field)?;
        }
        Ok(())
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $stage:ident $code:literal $says:literal;)*) => {
        /// The rules that can refuse, each with its stage, its stable code and one sentence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Rule {
            $(#[doc = $says] #[serde(rename = $code)] $variant,)*
        }

        impl Rule {
            /// Every rule, in order of the way of a request.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stage at which it refuses.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)* }
            }

            /// Its stable code, as it stands on the wire.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it says, for a person; only characters that `error_description` may hold
            /// (RFC 6749, section 5.2).
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }
        }
    };
}

/// Where on its way a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Parsing the request.
    Request,
    /// Checking the platform's token or the client's assertion.
    Proof,
    /// Checking the proof of possession of the client's key.
    Binding,
    /// Finding the workload that the proof matches.
    Match,
    /// The task's own rules: key, attempt, end, limits.
    Task,
    /// Access: scope, details, resource.
    Access,
    /// What a parent may hand over, and to whom.
    Delegation,
    /// The tenant's policies.
    Policy,
    /// Making it durable.
    Ledger,
}

impl Stage {
    /// Its stable code, as it stands on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Proof => "proof",
            Self::Binding => "binding",
            Self::Match => "match",
            Self::Task => "task",
            Self::Access => "access",
            Self::Delegation => "delegation",
            Self::Policy => "policy",
            Self::Ledger => "ledger",
        }
    }
}

rules! {
    ContentType = Request "content_type" "the body is not application/x-www-form-urlencoded";
    BodySize = Request "body_size" "the request is larger than allowed";
    Encoding = Request "encoding" "the body is not valid utf-8 form encoding";
    Repeated = Request "repeated_parameter" "a parameter stands more than once";
    Missing = Request "missing_parameter" "a parameter is missing";
    Invalid = Request "invalid_parameter" "a parameter has a value that cannot be used";
    GrantType = Request "grant_type" "the grant type is not served";
    Authentication = Request "authentication" "the caller did not authenticate as this endpoint demands";
    SeveralAuthentications = Request "several_authentications" "more than one way of authentication in one request";
    NotAllowed = Request "not_allowed" "this caller may not do that";
    NotFound = Request "not_found" "there is nothing by that name for this caller";
    AddressRate = Request "address_rate" "requests come from this address more often than allowed";

    TokenForm = Proof "token_form" "the token is not a signed jwt of the accepted form";
    TokenType = Proof "token_type" "the token is of another type than this place accepts";
    Issuer = Proof "issuer" "the token's issuer is not declared";
    Algorithm = Proof "algorithm" "the token's algorithm is not allowed for its issuer";
    Key = Proof "key" "no key of the issuer has the token's key id";
    KeysUnavailable = Proof "keys_unavailable" "the issuer's keys cannot be had now";
    Signature = Proof "signature" "the signature does not verify";
    Audience = Proof "audience" "the token was not made for this server alone";
    Times = Proof "times" "the token is not valid at this time";
    ProofAge = Proof "proof_age" "the token was made too long ago";
    ClaimMissing = Proof "claim_missing" "the token lacks a claim that is needed";
    ClaimForm = Proof "claim_form" "a claim of the token has a form that cannot be used";
    TokenReview = Proof "token_review" "the cluster does not vouch for the token";
    TokenReviewUnavailable = Proof "token_review_unavailable" "the cluster cannot be asked about the token now";
    BeforeRestore = Proof "before_restore" "the token was made before the ledger was restored from a backup";
    ProofSpent = Proof "proof_spent" "the token was used already";
    Assertion = Proof "assertion" "the client's assertion does not hold";
    AssertionSpent = Proof "assertion_spent" "the client's assertion was used already";
    Credential = Proof "credential" "the credential is not one that is live here";
    ActorRefused = Proof "actor" "the person's token says that somebody else may act";
    Handover = Proof "handover" "the hand-over does not hold";
    HandoverSpent = Proof "handover_spent" "the hand-over was used already";

    KeyProofMissing = Binding "dpop_missing" "a dpop proof is needed";
    KeyProof = Binding "dpop" "the dpop proof does not hold";
    KeyProofNonce = Binding "dpop_nonce" "the dpop proof needs a fresh nonce of this server";
    KeyProofSpent = Binding "dpop_replayed" "the dpop proof was used already";
    OtherKey = Binding "other_key" "the proof is by another key than the credential is bound to";
    BindingRequired = Binding "binding_required" "the workload demands a key-bound credential";

    NoWorkload = Match "no_workload" "no declared workload matches the proof";
    SeveralWorkloads = Match "several_workloads" "more than one declared workload matches the proof";
    WorkloadUnknown = Match "workload_unknown" "the named workload is not declared for this issuer";
    WorkloadUnfinished = Match "workload_unfinished" "the workload's declaration is unfinished";
    ClaimMismatch = Match "claim_mismatch" "a claim differs from what the workload demands";

    TaskKey = Task "task_key" "the proof does not say which run it is";
    Blocked = Task "blocked" "a block stands in the way";
    OlderAttempt = Task "older_attempt" "a newer attempt of the same run is known";
    AlreadyOpen = Task "already_open" "the task is open already and does not admit another client";
    AlreadyEnded = Task "already_ended" "the task of this run has ended and cannot start again";
    RetryDiffers = Task "retry_differs" "the token was used already with another request";
    RetryOtherKey = Task "retry_other_key" "the token was used already with another key";
    TaskEnded = Task "task_ended" "the task has ended";
    ClientEnded = Task "client_ended" "the client has ended";
    Deadline = Task "deadline" "the task has reached its deadline";
    Silent = Task "silent" "the task was silent beyond its grace";
    RightsRemoved = Task "rights_removed" "rights that the task relied on were taken away";
    ApprovalNeeded = Task "approval_needed" "the request needs an approval, and did not say that it can wait for one";
    ApprovalPending = Task "approval_pending" "the request waits for approval";
    SlowDown = Task "slow_down" "the approval is asked about more often than allowed";
    PollFlood = Task "poll_flood" "the approval is asked about more often than allowed, again and again";
    ApprovalDenied = Task "approval_denied" "the request was denied or cancelled";
    ApprovalExpired = Task "approval_expired" "the request was not approved, or not fetched, in time";
    ApprovalLapsed = Task "approval_lapsed" "what was approved is not allowed any more";
    ApprovalShort = Task "approval_short" "fewer people have approved than must by now";
    DeferralCode = Task "deferral_code" "the deferral code is not one that this client can redeem";
    NotPending = Task "not_pending" "the task waits for no approval";
    ApprovalComplete = Task "approval_complete" "the task is approved already";
    OwnRequest = Task "own_request" "who asks may not approve";
    ApprovedTwice = Task "approved_twice" "one person approves once";
    OpenLimit = Task "open_limit" "the workload has as many open tasks as it may";
    StartsLimit = Task "starts_limit" "the workload has started as many tasks in this hour as it may";
    RateLimit = Task "rate_limit" "credentials are asked for more often than the declared rate allows";
    ClientsLimit = Task "clients_limit" "the task has as many clients as it may";
    CredentialsLimit = Task "credentials_limit" "the client has as many live credentials as it may";
    RootOnly = Task "root_only" "only a root client may do that";
    SubjectRefused = Task "subject" "the workload does not act for that person";
    SubjectMissing = Task "subject_missing" "the workload acts on behalf of a person alone";
    SubjectOther = Task "subject_other" "the task runs on behalf of another person, or of nobody";

    ScopeUnknown = Access "scope_unknown" "the scope is not declared for the workload";
    ScopeNotGranted = Access "scope_not_granted" "the scope is not within the client's access";
    DetailType = Access "detail_type" "the type of a detail is not declared for the workload";
    DetailField = Access "detail_field" "a field of a detail is not declared for its type";
    DetailValue = Access "detail_value" "a field of a detail has a value of the wrong form";
    DetailsLimit = Access "details_limit" "more details than allowed";
    NotCovered = Access "not_covered" "the access asked for lies outside what is allowed";
    CeilingLowered = Access "ceiling_lowered" "the workload's ceiling no longer holds that access";
    CeilingClaim = Access "ceiling_claim" "a claim that the workload's ceiling is filled from cannot be used";
    TargetUnknown = Access "target_unknown" "the resource is not declared";
    TargetAmbiguous = Access "target_ambiguous" "exactly one resource must be named";
    TargetNotGranted = Access "target_not_granted" "nothing is granted at that resource";

    NotDelegable = Delegation "not_delegable" "the workload hands nothing over";
    DelegationTo = Delegation "delegation_to" "the workload may not hand over to that workload";
    ActorMissing = Delegation "actor_missing" "the child must bring a platform's proof of its own";
    DelegationDepth = Delegation "delegation_depth" "the hand-over would go deeper than allowed";
    DelegationClients = Delegation "delegation_clients" "more was handed over than allowed";
    HandoverKey = Delegation "handover_key" "the hand-over was made for another key";
    KeyTaken = Delegation "key_taken" "another client of the task has that key";
    NotNamed = Delegation "not_named" "the hand-over does not name its access in full";

    PolicyDenied = Policy "policy_denied" "a policy forbids it";
    PolicyNotPermitted = Policy "policy_not_permitted" "no policy permits it";
    PolicyFailed = Policy "policy_failed" "a policy could not be evaluated";

    TooLarge = Ledger "too_large" "the entry or token would be larger than allowed";
    Unavailable = Ledger "unavailable" "the ledger cannot record now";
    Busy = Ledger "busy" "the server is at its bound";
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_descriptions_may_go_on_the_wire() {
        let codes: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.code()).collect();
        assert_eq!(codes.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(
                rule.says()
                    .bytes()
                    .all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)),
                "{rule:?}"
            );
        }
    }
}
