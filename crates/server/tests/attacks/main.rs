//! Attacks on a running server, each named after what must hold, none of them waiting for time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test says what went wrong by panicking, and a table of attacks is long"
)]

mod access;
mod adversary;
mod applied;
mod approval;
mod approval_edges;
mod approval_ends;
mod approval_people;
mod approval_races;
mod audience;
mod by_hand;
mod clocks;
mod containment;
mod contention;
mod decisions;
mod decisions_handed;
mod declared;
mod delegation;
mod delegation_edges;
mod dpop;
mod ends;
mod faults;
mod findings;
mod findings_children;
mod foreseen;
mod handover;
mod input;
mod job;
mod keys;
mod letters;
mod one_append;
mod people;
mod pipelines;
mod platforms;
mod pod_grants;
mod pods;
mod policy;
mod proofs;
mod rates;
mod reach;
mod reasons;
mod refusals;
mod resources;
mod reviews;
mod runs;
mod signal_bars;
mod signal_polls;
mod signal_races;
mod signals;
mod silence;
mod sinks;
mod stalls;
mod subject_adversary;
mod subject_edges;
mod subject_life;
mod subjects;
mod tenants;
mod traced_clients;
mod traces;
mod unused_access;
mod vouched;
mod webhook_races;
mod webhook_stalls;
mod webhooks;
mod world;
