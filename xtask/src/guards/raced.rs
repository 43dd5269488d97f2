//! The guards of what happens at once, each with a play of the simulation that must go red without it.

use super::table::{Guard, SIMULATION};

/// Wherever they stand.
pub(super) const RACED: &[Guard] = &[
    Guard {
        promise: "P4",
        what: "the check of epochs where an append is judged, against every order of a start and an offboarding",
        file: "crates/store/src/memory/ledger.rs",
        guard: "if let Some(of) = self.moved_since(&append.relies) {",
        without: "if let Some(of) = self.moved_since(&[]) {",
        target: SIMULATION,
        test: "interleave::pairs::a_start_against_whatever_ends_what_is_not_there_yet",
    },
    Guard {
        promise: "P3",
        what: "the check of versions, against every order of a renewal and an end",
        file: "crates/store/src/memory/ledger.rs",
        guard: "
                && present == change.expected_version
                && (present > 0) == known
                && !change.events.is_empty()
                && change.next.id == change.task
                && change.next.version == present + change.events.len() as u64;",
        without: "
                && !change.events.is_empty();
            let _ = (present, known);",
        target: SIMULATION,
        test: "interleave::pairs::a_renewal_against_every_end",
    },
    Guard {
        promise: "P2",
        what: "the check that a key is claimed once, against every order of two claimants",
        file: "crates/store/src/memory/ledger.rs",
        guard: "if write.replaces != Some(held.task) || (is_open && !ends(held.task)) {",
        without: "if false {",
        target: SIMULATION,
        test: "interleave::attempts::of_two_claimants_of_one_attempt_one_is_open_afterwards",
    },
    Guard {
        promise: "P2",
        what: "the check that no higher attempt was there and every lower one ends, with many at once",
        file: "crates/store/src/sqlite/judge.rs",
        guard: "} else if rival.attempt > claim.attempt || !ends(rival.task) {",
        without: "} else if false && !ends(rival.task) {",
        target: SIMULATION,
        test: "threads::of_many_attempts_at_once_the_newest_stays",
    },
    Guard {
        promise: "P3",
        what: "the look at epochs before a signature",
        file: "crates/server/src/app/grant.rs",
        guard: "check_epochs(standing.stale.as_ref())?;",
        without: "check_epochs(None)?;",
        target: SIMULATION,
        test: "interleave::pairs::a_start_against_whatever_ends_what_is_not_there_yet",
    },
    Guard {
        promise: "P3",
        what: "the move of the epochs of what an apply removes, against every order of it and a start",
        file: "crates/server/src/app/declare.rs",
        guard: "append.moves = regrant.moves(&before.declared);",
        without: "append.moves = Vec::new();",
        target: SIMULATION,
        test: "interleave::applies::a_start_against_an_apply_that_ends_nothing",
    },
    Guard {
        promise: "P7",
        what: "the obedience to an end before the journal has it",
        file: "crates/server/src/app/held/store.rs",
        guard: "self.shared.begin_stall(why, &parts);",
        without: "self.shared.begin_stall(why, &[]);",
        target: SIMULATION,
        test: "interleave::stalls::a_held_end_against_a_renewal_and_resume",
    },
    Guard {
        promise: "P3",
        what: "the look at epochs where a token is introspected, against operations at random",
        file: "crates/server/src/app/authenticate.rs",
        guard: "        check_epochs(open.stale_for(own.id.client.number))?;",
        without: "        let _ = check_epochs(None);",
        target: SIMULATION,
        test: "simulate::tests::a_hundred_thousand_operations_agree_with_the_model",
    },
    Guard {
        promise: "P4",
        what: "that whoever approved is somebody else than approves now, against operations at random",
        file: "crates/domain/src/approve.rs",
        guard: "    if same.into_iter().any(|(known, now)| known == now) {",
        without: "    if same.into_iter().any(|_| false) {",
        target: SIMULATION,
        test: "simulate::tests::a_hundred_thousand_operations_agree_with_the_model",
    },
    Guard {
        promise: "P4",
        what: "that an approver is a member of the owner, against operations at random",
        file: "crates/server/src/http/admin/keeper.rs",
        guard: "            .is_none_or(|owners| owner.is_some_and(|owner| owners.contains(owner)))",
        without: "            .is_none_or(|_| owner.is_some())",
        target: SIMULATION,
        test: "simulate::tests::a_hundred_thousand_operations_agree_with_the_model",
    },
    Guard {
        promise: "P2",
        what: "that of two attempts the lower is not open beside the higher, where nothing else keeps them apart",
        file: "crates/store/src/memory/ledger.rs",
        guard: "                && (held.attempt > Some(attempt)",
        without: "                && (false && held.attempt > Some(attempt)",
        target: SIMULATION,
        test: "interleave::attempts::of_two_attempts_by_other_jobs_the_higher_is_open_afterwards",
    },
    Guard {
        promise: "P2",
        what: "the refusal of an older attempt, against every order of it and a newer one",
        file: "crates/domain/src/admit.rs",
        guard: "        (Some(attempt), Some(highest)) if attempt < highest => {",
        without: "        (Some(attempt), Some(highest)) if attempt < highest && highest == u64::MAX => {",
        target: SIMULATION,
        test: "interleave::attempts::of_two_newer_attempts_the_higher_is_open_afterwards",
    },
    Guard {
        promise: "P3",
        what: "the check of versions, against every order of two attempts and the end of the one before",
        file: "crates/store/src/memory/ledger.rs",
        guard: "
                && present == change.expected_version
                && (present > 0) == known
                && !change.events.is_empty()
                && change.next.id == change.task
                && change.next.version == present + change.events.len() as u64;",
        without: "
                && !change.events.is_empty();
            let _ = (present, known);",
        target: SIMULATION,
        test: "interleave::attempts::newer_attempts_and_the_end_of_the_first_leave_the_highest",
    },
    Guard {
        promise: "P3",
        what: "the look at ends where a use is recorded, against every order of it and an end",
        file: "crates/store/src/memory/used.rs",
        guard: "self.moved_since(&used.relies).or(relied) {",
        without: "self.moved_since(&used.relies).or(relied).filter(|_| false) {",
        target: SIMULATION,
        test: "interleave::uses::a_use_against_every_end",
    },
    Guard {
        promise: "P4",
        what: "what a renewal and an exchange rely on at their append, against every order of an exchange and an end",
        file: "crates/server/src/app/renew.rs",
        guard: "                relies: relies_of(&open.task, number),",
        without: "                relies: Vec::new(),",
        target: SIMULATION,
        test: "interleave::pairs::an_exchange_against_every_end",
    },
    Guard {
        promise: "P4",
        what: "what a child relies on at its append, against every order of a hand-over and an end",
        file: "crates/server/src/app/child.rs",
        guard: "            relies: relies_of(&change.next, child),",
        without: "            relies: Vec::new(),",
        target: SIMULATION,
        test: "interleave::handovers::a_hand_over_against_every_end_of_what_it_is_of",
    },
    Guard {
        promise: "P4",
        what: "what an approval relies on at its append, against every order of it and an end",
        file: "crates/server/src/app/approve.rs",
        guard: "                relies: open.task.epochs.clone(),",
        without: "                relies: Vec::new(),",
        target: SIMULATION,
        test: "interleave::approvals::an_approval_against_every_end_of_what_waits",
    },
    Guard {
        promise: "P4",
        what: "what a fetch relies on at its append, against every order of it and containment",
        file: "crates/server/src/app/redeem.rs",
        guard: "            relies: task.epochs.clone(),",
        without: "            relies: Vec::new(),",
        target: SIMULATION,
        test: "interleave::fetches::a_fetch_against_containment",
    },
    Guard {
        promise: "P7",
        what: "the obedience to a word about a person before the ledger has it",
        file: "crates/server/src/app/held/store.rs",
        guard: "                state.set.add_word(held);",
        without: "                let _ = held;",
        target: SIMULATION,
        test: "interleave::words::a_hand_over_against_a_held_word_and_resume",
    },
    Guard {
        promise: "P7",
        what: "the record of what the journal holds before anything is granted again",
        file: "crates/server/src/app/held/resume.rs",
        guard: "            self.record(batch).await?;",
        without: "            let _ = self.record(&[]).await;",
        target: SIMULATION,
        test: "interleave::stalls::a_held_end_against_a_renewal_and_resume",
    },
    Guard {
        promise: "P4",
        what: "that an apply ends as many tasks as was agreed to, with many starts at once",
        file: "crates/server/src/app/declare.rs",
        guard: "    if request.dry_run || request.ends.unwrap_or(0) == open {",
        without: "    if true {",
        target: SIMULATION,
        test: "threads::what_starts_beside_its_removal_is_counted_or_refused",
    },
    Guard {
        promise: "P3",
        what: "the look at epochs where a token is introspected, with many who mint at once",
        file: "crates/server/src/app/authenticate.rs",
        guard: "        check_epochs(open.stale_for(own.id.client.number))?;",
        without: "        let _ = check_epochs(None);",
        target: SIMULATION,
        test: "threads::nothing_that_is_minted_beside_an_end_outlives_it",
    },
];
