//! How often a simulation came to what it is made for: a rule that nothing reaches looks like one that holds.

use std::collections::BTreeMap;

/// What is worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A request waits for people.
    Requested,
    /// Its first answer was given again.
    ToldAgain,
    /// Somebody approved, as the last of those who must.
    Approved,
    /// Somebody who asked, or had approved, or is no member, was refused.
    NotApproved,
    Denied,
    TakenBack,
    /// What was approved was fetched.
    Fetched,
    /// The commit of that was kept, and nobody heard of it.
    FetchedUnheard,
    /// What was approved and is there was not given out, for who asks is kept out by now.
    KeptOut,
    /// Who approved was out by the time it was fetched.
    Unapproved,
    /// It expired, waiting or approved.
    Expired,
    /// The platform said of what waited that its run is over.
    Cancelled,
    /// A word ended tasks of a person.
    LoggedOut,
    /// A word put a person out.
    PutOut,
    /// A word came while the ledger did not record.
    SaidInAStall,
    /// A word that was known came again.
    SaidAgain,
    LetIn,
    /// A client of somebody who is out got nothing further.
    NothingFurther,
    /// A finding was open, and none was of its kind before.
    Ownerless,
    OldBlock,
    NeverClosed,
    /// One that was open closed.
    OwnedAgain,
    BlockGone,
    ClosedAgain,
}

/// How often each was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached(BTreeMap<Place, u64>);

impl Place {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 24] = [
        Self::Requested,
        Self::ToldAgain,
        Self::Approved,
        Self::NotApproved,
        Self::Denied,
        Self::TakenBack,
        Self::Fetched,
        Self::FetchedUnheard,
        Self::KeptOut,
        Self::Unapproved,
        Self::Expired,
        Self::Cancelled,
        Self::LoggedOut,
        Self::PutOut,
        Self::SaidInAStall,
        Self::SaidAgain,
        Self::LetIn,
        Self::NothingFurther,
        Self::Ownerless,
        Self::OldBlock,
        Self::NeverClosed,
        Self::OwnedAgain,
        Self::BlockGone,
        Self::ClosedAgain,
    ];
}

impl Reached {
    pub(crate) fn count(&mut self, place: Place) {
        self.count_if(true, place);
    }

    pub(crate) fn count_if(&mut self, reached: bool, place: Place) {
        *self.0.entry(place).or_default() += u64::from(reached);
    }

    /// Both together.
    #[cfg(test)]
    pub(crate) fn and(mut self, other: Self) -> Self {
        for (place, times) in other.0 {
            *self.0.entry(place).or_default() += times;
        }
        self
    }

    #[cfg(test)]
    pub(crate) fn times(&self, place: Place) -> u64 {
        self.0.get(&place).copied().unwrap_or_default()
    }
}
