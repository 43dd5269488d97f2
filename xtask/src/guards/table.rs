//! The guards of the promises, and for each a test that must not pass without it.

/// A line that a promise stands on.
pub(super) struct Guard {
    /// The promise, as DESIGN and README number them.
    pub(super) promise: &'static str,
    /// What the line does.
    pub(super) what: &'static str,
    /// Where it stands.
    pub(super) file: &'static str,
    /// The line, or as much of it as stands there once.
    pub(super) guard: &'static str,
    /// What stands there once it is taken out.
    pub(super) without: &'static str,
    /// Where the test is: arguments of `cargo test`.
    pub(super) target: &'static str,
    /// The test's whole name.
    pub(super) test: &'static str,
}

const DOMAIN_LAWS: &str = "--workspace --test laws";
const LEDGER: &str = "--workspace --test all";
const STORE: &str = "--workspace --test store";
const STORE_INSIDE: &str = "--package dayfly-store --lib";
const ATTACKS: &str = "--workspace --test attacks";
const SIMULATION: &str = "--workspace --bin dayfly-sim";

/// From the crates that depend on nothing to the server, so that each is built anew as seldom as can be.
pub(super) const GUARDS: &[Guard] = &[
    Guard {
        promise: "P2",
        what: "the bound of a credential by its client and its task",
        file: "crates/domain/src/decide.rs",
        guard: "let mut expires = client.expires.min(task.deadline);",
        without: "let mut expires = Time::from_millis(u64::MAX);",
        target: DOMAIN_LAWS,
        test: "laws::runs::every_run_keeps_the_promises",
    },
    Guard {
        promise: "P2",
        what: "the bound of how deep is handed over",
        file: "crates/domain/src/delegate.rs",
        guard: "        if below > allowed {",
        without: "        if false {",
        target: DOMAIN_LAWS,
        test: "laws::delegation::delegation_never_widens",
    },
    Guard {
        promise: "P2",
        what: "the check that a child brings a key of its own",
        file: "crates/domain/src/delegate.rs",
        guard: "    check_key_is_free(task, delegate)?;",
        without: "    let _ = check_key_is_free(task, delegate);",
        target: DOMAIN_LAWS,
        test: "laws::delegation::delegation_never_widens",
    },
    Guard {
        promise: "P5",
        what: "the check of a leaf against its stored hash",
        file: "crates/ledger/src/fsck.rs",
        guard: "if hash != *stored {",
        without: "if false {",
        target: LEDGER,
        test: "fsck::every_edit_is_found_where_it_was_made",
    },
    Guard {
        promise: "P5",
        what: "the check that an end counts the entries of its task",
        file: "crates/ledger/src/chain.rs",
        guard: "Some(count) if count == link.seq =>",
        without: "Some(_) =>",
        target: LEDGER,
        test: "fsck::each_rule_is_named",
    },
    Guard {
        promise: "P5",
        what: "the comparison of exported entries with the root of a head",
        file: "crates/ledger/src/range.rs",
        guard: "if got == *root {",
        without: "if true {",
        target: LEDGER,
        test: "properties::a_range_is_proven_and_nothing_else_is",
    },
    Guard {
        promise: "P1",
        what: "the sync of a commit",
        file: "crates/store/src/sqlite.rs",
        guard: "            Sync::Full,",
        without: "            Sync::Normal,",
        target: STORE_INSIDE,
        test: "sqlite::tests::durability::every_answer_comes_after_a_sync",
    },
    Guard {
        promise: "P2",
        what: "the check that a key is claimed once",
        file: "crates/store/src/sqlite/judge.rs",
        guard: "if write.replaces != Some(rival.task) || (rival.is_open && !ends(rival.task)) {",
        without: "if false {",
        target: STORE,
        test: "sqlite::races::a_key_is_claimed_once",
    },
    Guard {
        promise: "P8",
        what: "the drop of claims past their keep",
        file: "crates/store/src/sqlite/partition.rs",
        guard: "db.execute_batch(&format!(\"DROP TABLE claims_{passed}\"))?;",
        without: "let _ = passed;",
        target: STORE,
        test: "sqlite::races::claims_are_kept_as_long_as_asked_and_then_forgotten",
    },
    Guard {
        promise: "P4",
        what: "the check of epochs where an append is judged",
        file: "crates/store/src/sqlite/judge.rs",
        guard: "if let Some(of) = self.draft.moved_since(&append.relies) {",
        without: "if let Some(of) = self.draft.moved_since(&[]) {",
        target: STORE,
        test: "sqlite::declared::a_moved_epoch_is_stale",
    },
    Guard {
        promise: "P3",
        what: "the look at epochs where a token is introspected",
        file: "crates/server/src/app/authenticate.rs",
        guard: "        check_epochs(open.stale_for(own.id.client.number))?;",
        without: "        let _ = check_epochs(None);",
        target: ATTACKS,
        test: "containment::one_entry_stops_everything_at_once_and_the_ends_follow",
    },
    Guard {
        promise: "P4",
        what: "the same look, for what is minted during an offboarding",
        file: "crates/server/src/app/authenticate.rs",
        guard: "        check_epochs(open.stale_for(own.id.client.number))?;",
        without: "        let _ = check_epochs(None);",
        target: ATTACKS,
        test: "containment::nothing_minted_during_an_offboarding_survives_it",
    },
    Guard {
        promise: "P3",
        what: "the look at what a child of another workload relies on",
        file: "crates/store/src/contract/read.rs",
        guard: "        self.stale.as_ref().or_else(below)",
        without: "        self.stale.as_ref().or_else(|| below().filter(|_| false))",
        target: ATTACKS,
        test: "delegation::a_child_of_another_workload_proves_itself_and_falls_alone",
    },
    Guard {
        promise: "P3",
        what: "the look at the next start at what was granted before an activation that fell",
        file: "crates/server/src/app/ending.rs",
        guard: "tasks = self.with_late(tenant, tasks, upto, former).await?;",
        without: "let _ = (upto, former);",
        target: ATTACKS,
        test: "applied::what_slipped_in_before_a_fall_is_judged_by_the_next_start",
    },
    Guard {
        promise: "P3",
        what: "the last look at the keys in force before a token is signed",
        file: "crates/server/src/mint/token.rs",
        guard: "|| !present.verifying().knows(kid)",
        without: "|| !sealer.keyring.verifying().knows(kid)",
        target: ATTACKS,
        test: "keys::a_grant_that_was_decided_under_a_stolen_key_gets_no_signature",
    },
    Guard {
        promise: "P6",
        what: "the silence towards the caller about what would have passed",
        file: "crates/server/src/http/answer.rs",
        guard: "\"got\": refused.refusal.got,",
        without: "\"got\": refused.refusal.got, \"wanted\": refused.refusal.wanted,",
        target: ATTACKS,
        test: "refusals::a_caller_learns_nothing_of_what_would_have_passed",
    },
    Guard {
        promise: "P7",
        what: "the last look before a signature at ends that are held in the journal",
        file: "crates/server/src/app/held/store.rs",
        guard: "facts.standings = tasks.into_iter().map(standing).collect::<Result<_, _>>()?;",
        without: "let _: Result<Vec<_>, Unavailable> = tasks.into_iter().map(standing).collect();",
        target: ATTACKS,
        test: "stalls::nothing_is_signed_for_what_is_held_and_not_recorded",
    },
    Guard {
        promise: "P7",
        what: "the no of a policy that errs",
        file: "crates/server/src/policy/evaluate.rs",
        guard: "let decision = if permitted && errors.is_empty() && missing.is_none() {",
        without: "let decision = if permitted && missing.is_none() {",
        target: ATTACKS,
        test: "policy::a_policy_that_errs_denies_though_another_permits",
    },
    Guard {
        promise: "P3",
        what: "the conflict of a grant with the close of its run",
        file: "crates/store/src/sqlite/close.rs",
        guard: "if closed.iter().any(covers) {",
        without: "if false && closed.iter().any(covers) {",
        target: ATTACKS,
        test: "webhook_races::a_run_that_is_over_while_it_is_granted_is_granted_nothing",
    },
    Guard {
        promise: "P3",
        what: "the conflict of a close with an open task that it has not seen",
        file: "crates/store/src/sqlite/close.rs",
        guard: "if !known || (goes_on && close.closed.part.is_none()) {",
        without: "if false && (!known || (goes_on && close.closed.part.is_none())) {",
        target: ATTACKS,
        test: "webhook_races::a_job_that_opens_while_the_run_is_ended_is_ended_with_it",
    },
    Guard {
        promise: "P3",
        what: "a renewal's word that its instance is not blocked, at its append",
        file: "crates/server/src/app/renew.rs",
        guard: "unblocked: BlockOn::of_client(&open.task, number),",
        without: "unblocked: Vec::new(),",
        target: ATTACKS,
        test: "by_hand::nothing_decided_before_a_block_of_an_instance_is_given_after_it",
    },
    Guard {
        promise: "P3",
        what: "the look after a block for who joined before it",
        file: "crates/server/src/app/cut.rs",
        guard: "                    if !block {
                        break;
                    }",
        without: "                    break;",
        target: ATTACKS,
        test: "by_hand::who_joins_under_a_block_of_its_instance_is_ended_with_it",
    },
    Guard {
        promise: "P4",
        what: "the revision that a hand-over moves",
        file: "crates/server/src/app/contain.rs",
        guard: "append.revises = true;",
        without: "",
        target: ATTACKS,
        test: "handover::what_was_decided_before_a_hand_over_is_decided_anew_or_not_at_all",
    },
    Guard {
        promise: "P4",
        what: "the check of epochs where an append is judged, against every order of a start and an offboarding",
        file: "crates/store/src/memory/ledger.rs",
        guard: "if let Some(of) = self.moved_since(&append.relies) {",
        without: "if let Some(of) = self.moved_since(&[]) {",
        target: SIMULATION,
        test: "interleave::pairs::a_start_against_offboarding_disabling_and_freeze",
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
        promise: "P3",
        what: "the look at epochs before a signature",
        file: "crates/server/src/app/grant.rs",
        guard: "check_epochs(standing.stale.as_ref())?;",
        without: "check_epochs(None)?;",
        target: SIMULATION,
        test: "interleave::pairs::a_start_against_offboarding_disabling_and_freeze",
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
        promise: "P3",
        what: "that a task relies on the authentication of the person for whom it runs",
        file: "crates/server/src/app/plan.rs",
        guard: "        facts.epochs.extend(subject.map(Subject::epoch));",
        without: "        let _ = subject;",
        target: ATTACKS,
        test: "subject_life::the_end_of_a_session_ends_the_task_and_all_that_it_handed_on",
    },
];
