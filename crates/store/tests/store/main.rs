//! The conformance suite, run against every backend, and what is particular to each.

#[cfg(test)]
mod again;
#[cfg(test)]
mod asked;
#[cfg(test)]
mod bundles;
#[cfg(test)]
mod closes;
#[cfg(test)]
mod declared;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod found;
#[cfg(test)]
mod heard;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod order;
#[cfg(test)]
mod people;
#[cfg(test)]
mod races;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod used;

/// Makes a test of each rule of the contract for one backend.
macro_rules! conformance {
    ($subject:ty) => {
        conformance! { $subject, order:
            positions_are_contiguous_and_time_never_decreases, an_empty_ledger_reads_as_empty,
            entries_of_a_task_are_chained_and_counted, ranges_of_entries,
            tenants_have_ledgers_of_their_own, a_leaf_too_large_leaves_nothing,
            an_append_that_no_ledger_holds_is_refused, head_and_tiles_are_those_of_a_naive_tree
        }
        conformance! { $subject, races:
            a_version_that_moved_is_a_conflict, a_task_that_ended_never_opens_again,
            nothing_of_a_loser_is_seen, a_key_is_claimed_once, the_end_of_a_task_marks_its_claim,
            a_higher_attempt_supersedes_in_one_append,
            a_task_may_take_its_own_claim_over_as_it_ends,
            claims_are_kept_as_long_as_asked_and_then_forgotten, a_clock_alone_forgets_nothing,
            a_claim_outlives_its_task_whatever_was_asked, a_one_time_key_is_spent_once,
            a_key_past_its_keep_is_not_spent_anew,
            a_clock_that_is_ahead_for_a_while_forgets_nothing,
            a_clock_that_is_days_ahead_forgets_a_day_at_a_time,
            what_is_over_is_forgotten_up_to_the_day_that_was_seen, of_many_that_spend_one_key_one_wins,
            of_many_that_claim_one_key_one_wins, many_writers_and_readers_see_one_history
        }
        conformance! { $subject, closes:
            a_closed_run_is_granted_nothing, a_close_within_the_batch_counts,
            a_close_sees_every_open_task_of_its_attempt, a_close_said_again_changes_nothing,
            closed_runs_are_kept_as_long_as_asked_and_then_forgotten,
            closes_and_starts_race_to_nothing_open
        }
        conformance! { $subject, people:
            what_was_authenticated_before_is_stale, a_start_after_it_is_refused,
            a_delegated_client_loses_its_own_person, what_is_said_only_grows,
            people_are_kept_as_long_as_asked_and_then_forgotten
        }
        conformance! { $subject, declared:
            a_moved_epoch_is_stale, tasks_on_a_moved_epoch_are_due,
            a_moved_epoch_of_a_delegated_client_is_its_own,
            tasks_on_a_moved_epoch_come_in_pages, a_moved_revision_is_revised,
            limits_are_counted_at_the_position,
            starts_of_the_hour_are_those_of_the_clock, blocks_stand_until_lifted,
            blocks_are_read_without_copying_them, documents_are_found_by_prefix
        }
        conformance! { $subject, heard:
            beats_are_seen_at_once_and_never_go_back,
            time_in_which_nothing_could_be_heard_is_counted, deaf_time_is_counted_once,
            what_was_heard_ahead_of_the_clock_counts_up_to_it,
            the_sweep_finds_what_is_due,
            open_tasks_come_in_pages
        }
        conformance! { $subject, found:
            entries_are_found_under_their_keys,
            whoever_vouched_beside_the_issuer_of_a_task_is_found, found_positions_come_in_pages,
            what_was_answered_is_found, what_is_erased_is_gone_and_its_leaf_stays
        }
        conformance! { $subject, used:
            uses_are_recorded_in_order, a_use_after_the_end_is_told_the_cause,
            an_entry_that_is_ahead_ends_no_client,
            a_use_whose_day_is_forgotten_stops_no_other, a_use_under_a_moved_epoch_is_stale,
            a_use_by_a_delegated_client_that_lost_its_rights_is_stale, uses_are_counted_to_their_bound,
            a_use_of_what_is_blocked_by_now_is_told,
            a_use_under_another_revision_is_revised, a_proof_is_spent_by_the_uses_it_was_shown_with,
            a_use_that_is_not_recorded_spends_nothing,
            a_note_too_large_records_no_use, uses_and_ends_race_to_one_order
        }
        conformance! { $subject, asked:
            what_waits_is_open_and_counted_and_claims_its_key,
            of_two_approvals_at_once_one_is_decided_anew,
            what_was_asked_for_starts_under_its_own_id_once,
            what_nobody_approved_is_due_and_ends_without_a_client
        }
        conformance! { $subject, again: a_store_opened_again_is_the_same }
    };
    ($subject:ty, $module:ident: $($rule:ident),*) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $rule() {
                    crate::$module::$rule::<$subject>();
                }
            )*
        }
    };
}

#[cfg(test)]
use conformance;
