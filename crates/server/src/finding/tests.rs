//! What there is to find, as data; and how findings open, change, wait and close.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Block, BlockOn, Blocks, Bounds, Cause, Digest, Name, RefusalId, Span, Time};
use dayfly_store::Append;

use super::kept::Change;
use super::*;
use crate::declared::Declared;
use crate::declared::tests::{Folder, GOOD};

const DAY: u64 = 86_400;
const BEGIN: u64 = 1_800_000_000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Time {
    Time::from_seconds(BEGIN + seconds)
}

fn declared(text: &str) -> Declared {
    match Folder::new().load(&[("tenant.toml", text)]) {
        Ok((declared, _)) => declared,
        Err(errors) => panic!("{errors:?}"),
    }
}

/// What there is to find, a line each: the id, the owner and what it says.
struct Case {
    declared: Declared,
    blocks: Blocks,
    blocked: BTreeSet<String>,
    seen: BTreeMap<Name, Seen>,
    free: Option<u64>,
    was_low: bool,
    now: Time,
}

impl Case {
    fn of(text: &str) -> Self {
        let declared = declared(text);
        let workloads = declared.workloads.keys();
        let seen = workloads.map(|name| (name.clone(), Seen::new(at(0))));
        Self {
            seen: seen.collect(),
            declared,
            blocks: Blocks::default(),
            blocked: BTreeSet::new(),
            free: None,
            was_low: false,
            now: at(0),
        }
    }

    fn counted(mut self, counted: &Counted) -> Self {
        let seen = self.seen.get_mut(&name("release")).unwrap();
        *seen = seen.clone().then(counted.clone(), self.now);
        self
    }

    fn blocked(mut self, on: BlockOn, since: u64) -> Self {
        self.blocks.set(Block {
            on,
            task: None,
            since: at(since),
        });
        self
    }

    fn at(mut self, now: u64) -> Self {
        self.now = at(now);
        self
    }

    fn found(&self) -> BTreeMap<String, What> {
        evaluate(&Circumstances {
            now: self.now,
            declared: &self.declared,
            blocks: &self.blocks,
            blocked: &self.blocked,
            seen: &self.seen,
            bounds: &Bounds::default(),
            free: self.free,
            was_low: self.was_low,
        })
    }

    fn ids(&self) -> String {
        let found = self.found();
        let ids: Vec<&str> = found.keys().map(String::as_str).collect();
        ids.join(" ")
    }
}

fn good_but(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

fn with(keys: &str) -> String {
    good_but(
        "[workload.release]\n",
        &format!("[workload.release]\n{keys}\n"),
    )
}

#[test]
fn what_is_declared_well_is_no_finding() {
    let case = Case::of(GOOD);
    assert_eq!(case.ids(), "");
    assert_eq!(case.at(89 * DAY).ids(), "");
}

#[test]
fn what_is_declared_is_judged() {
    let matching = r#"match = { issuer = "github", repository_id = "1296269" }"#;
    let other = |clause: &str| good_but(matching, &format!("match = {{ {clause} }}"));
    let members = |members: &str| good_but(r#"members = ["group:platform"]"#, members);
    let url = "url = \"https://artifacts.example\"";
    for (text, wanted) in [
        (members(""), "ownerless/owner:team-platform"),
        (
            members(r#"members = ["sub:m"]"#),
            "one_person_owner/owner:team-platform",
        ),
        (
            members(r#"members = ["email:m@example.com"]"#),
            "one_person_owner/owner:team-platform",
        ),
        (members(r#"members = ["sub:m", "sub:n"]"#), ""),
        (
            other(r#"issuer = "github", repository = "octo/app""#),
            "names_only/workload:release",
        ),
        (other(r#"issuer = "gitlab", project_id = "7""#), ""),
        (
            other(r#"issuer = "gitlab", project_path = "g/p""#),
            "names_only/workload:release",
        ),
        (
            other(r#"issuer = "cluster", namespace = "n", serviceaccount = "s""#),
            "names_only/workload:release",
        ),
        (other(r#"issuer = "cluster", serviceaccount_uid = "u""#), ""),
        (
            with(r#"token = { binding = "optional" }"#),
            "bearer_allowed/workload:release",
        ),
        (
            good_but(url, &format!("{url}\nsecret_file = \"artifacts.secret\"")),
            "static_secret/resource:artifacts",
        ),
        (
            good_but(
                url,
                &format!("{url}\njwks = {{ file = \"github-jwks.json\" }}"),
            ),
            "",
        ),
    ] {
        assert_eq!(Case::of(&text).ids(), wanted, "{text}");
    }
    // An owner without workloads answers for nothing.
    let idle = format!("{GOOD}[owner.idle]\nname = \"Idle\"\ncontact = \"i\"\n");
    assert_eq!(Case::of(&idle).ids(), "");
}

#[test]
fn an_owner_all_of_whose_named_members_are_blocked_has_nobody_who_may_act() {
    let of = |members: &str, blocked: &[&str]| {
        let mut case = Case::of(&good_but(r#"["group:platform"]"#, members));
        case.blocked = blocked.iter().map(ToString::to_string).collect();
        case
    };
    let two = r#"["sub:m", "sub:n"]"#;
    assert_eq!(of(two, &["m"]).ids(), "");
    let found = of(two, &["m", "n"]).found();
    let what = &found["ownerless/owner:team-platform"];
    assert_eq!(
        what.says(),
        "the owner team-platform names no member who is not blocked, and 1 workload belongs to it"
    );
    assert_eq!(
        serde_json::to_value(what).unwrap()["why"],
        "members_blocked"
    );
    // Who is in a group or has an address nobody here can know.
    for more in ["group:platform", "email:o@example.com"] {
        let members = format!(r#"["sub:m", "{more}"]"#);
        assert_eq!(of(&members, &["m", "o"]).ids(), "");
    }
}

#[test]
fn ends_without_a_word_are_one_finding_until_tasks_end_by_themselves_again() {
    let mut counted = Counted::default();
    for second in 0..10_000 {
        counted.ended(Cause::Heartbeat, at(second));
    }
    counted.ended(Cause::Deadline, at(10_000));
    let case = Case::of(GOOD).counted(&counted);
    let found = case.found();
    assert_eq!(found.len(), 1);
    let what = &found["never_closed/workload:release"];
    assert_eq!(
        *what,
        What::NeverClosed {
            workload: name("release"),
            owner: name("team-platform"),
            count: 10_001,
            first: at(0),
            last: at(10_000),
        }
    );
    // Time alone mends nothing, and neither does an end that somebody else made.
    let mut other = Counted::default();
    for cause in [
        Cause::Operator,
        Cause::Superseded,
        Cause::Upstream,
        Cause::Policy,
    ] {
        other.ended(cause, at(10_001));
    }
    let later = |case: Case, seconds: u64, counted: &Counted| case.at(seconds).counted(counted);
    let case = later(case, 10_000 + 5 * DAY, &other);
    assert_eq!(case.ids(), "never_closed/workload:release");
    let mut orderly = Counted::default();
    orderly.ended(Cause::Failed, at(10_000 + 5 * DAY));
    let case = later(case, 10_000 + 5 * DAY, &orderly);
    assert_eq!(case.ids(), "");
    // An orderly end right after the last silent one waits for the day to pass.
    let mut both = Counted::default();
    both.ended(Cause::Deadline, at(6 * DAY));
    both.ended(Cause::Completed, at(6 * DAY + 1));
    let case = later(case, 7 * DAY - 1, &both);
    assert_eq!(case.ids(), "never_closed/workload:release");
    let case = later(case, 7 * DAY, &Counted::default());
    assert_eq!(case.ids(), "");
    // A silent end after an orderly one counts from the beginning.
    let mut again = Counted::default();
    again.ended(Cause::Completed, at(8 * DAY));
    again.ended(Cause::Deadline, at(8 * DAY + 1));
    let case = later(case, 20 * DAY, &again);
    let found = case.found();
    let What::NeverClosed { count, .. } = found["never_closed/workload:release"] else {
        panic!("{found:?}");
    };
    assert_eq!(count, 1);
}

#[test]
fn counts_add_up_in_whatever_pieces_they_come() {
    let causes = [
        Cause::Deadline,
        Cause::Completed,
        Cause::Heartbeat,
        Cause::Operator,
        Cause::Cancelled,
        Cause::Deadline,
    ];
    let count = |range: std::ops::Range<usize>| {
        let mut counted = Counted::default();
        for n in range {
            counted.started(at(n as u64 * DAY));
            counted.ended(causes[n], at(n as u64 * DAY));
            counted.uses(Bound::Clients, 200 + n as u64, at(n as u64));
            counted.shown_by_two_keys(RefusalId([n as u8; 16]), at(n as u64));
        }
        counted
    };
    let whole = count(0..causes.len());
    for first in 0..=causes.len() {
        for second in first..=causes.len() {
            let parts = count(0..first).then(count(first..second));
            let parts = parts.then(count(second..causes.len()));
            assert_eq!(parts, whole, "{first} {second}");
        }
    }
}

#[test]
fn a_bound_that_is_come_near_is_a_finding_for_a_day() {
    let limits = |open: u64| {
        with(&format!(
            "limits = {{ open = {open}, starts_per_hour = 100 }}\ndelegation = {{ depth = 1, clients = 10, to = [\"self\"] }}"
        ))
    };
    let used = |bound: Bound, most: u64| {
        let mut counted = Counted::default();
        counted.uses(bound, most, at(0));
        counted
    };
    for (bound, most, wanted) in [
        (Bound::Open, 8, "near_bound/workload:release:limits.open"),
        (Bound::Open, 7, ""),
        (
            Bound::StartsPerHour,
            80,
            "near_bound/workload:release:limits.starts_per_hour",
        ),
        (Bound::StartsPerHour, 79, ""),
        (
            Bound::Clients,
            205,
            "near_bound/workload:release:bounds.clients",
        ),
        (Bound::Clients, 204, ""),
        (
            Bound::Credentials,
            13,
            "near_bound/workload:release:bounds.live_credentials",
        ),
        (Bound::Credentials, 12, ""),
        (
            Bound::Children,
            8,
            "near_bound/workload:release:delegation.clients",
        ),
        (Bound::Children, 7, ""),
    ] {
        let case = Case::of(&limits(10)).counted(&used(bound, most));
        assert_eq!(case.ids(), wanted, "{bound:?} {most}");
        let later = case.at(DAY).counted(&Counted::default());
        assert_eq!(later.ids(), "", "{bound:?} {most}");
    }
    // One at a time is meant, and no bound is none.
    assert_eq!(
        Case::of(&limits(1)).counted(&used(Bound::Open, 1)).ids(),
        ""
    );
    assert_eq!(Case::of(GOOD).counted(&used(Bound::Open, 1000)).ids(), "");
}

/// The release, whose resource reports, and which may read and publish.
fn reporting() -> String {
    let url = "url = \"https://artifacts.example\"";
    good_but(
        url,
        &format!("{url}\njwks = {{ file = \"github-jwks.json\" }}\nreports = true"),
    )
    .replace("[\"read\"]", "[\"read\", \"publish\"]")
}

/// The parts of the release's access, and those of them that end so.
fn parts(declared: &Declared, ending: &str) -> Vec<String> {
    let all = Watched::of(declared).parts(&name("release")).into_iter();
    all.filter(|part| part.ends_with(ending)).collect()
}

#[test]
fn what_is_granted_and_never_used_is_a_finding_until_it_is_used() {
    let case = Case::of(&reporting());
    let all = parts(&case.declared, "");
    assert!(all.len() > 1, "{all:?}");
    let granted = |tasks: u64| {
        let mut counted = Counted::default();
        for _ in 0..tasks {
            counted.granted(all.clone(), at(0));
        }
        counted
    };
    // Twenty tasks over fourteen days, of which the first counts from its beginning.
    let few = Case::of(&reporting()).at(20 * DAY).counted(&granted(19));
    assert_eq!(few.ids(), "");
    let case = case.at(13 * DAY).counted(&granted(20));
    assert_eq!(case.ids(), "");
    let case = case.at(14 * DAY);
    let found = case.found();
    let never: Vec<&What> = found.values().collect();
    assert!(!never.is_empty());
    let id = &never[0].id();
    assert!(
        id.starts_with("never_used/workload:release:artifacts:"),
        "{id}"
    );
    let says = never[0].says();
    assert!(says.contains("in 20 tasks since 2027-01-15"), "{says}");
    // One use of each action closes it.
    let mut used = Counted::default();
    used.used(all.clone(), at(14 * DAY));
    assert_eq!(case.counted(&used).ids(), "");
    // One that is used leaves the others.
    let case = Case::of(&reporting()).at(14 * DAY).counted(&granted(20));
    let mut used = Counted::default();
    used.used(parts(&case.declared, "/read"), at(14 * DAY));
    let case = case.counted(&used);
    for what in case.found().into_values() {
        let What::NeverUsed { actions, .. } = &what else {
            panic!("{what:?}");
        };
        assert_eq!(actions, &["publish"]);
    }
    assert!(!case.ids().is_empty());
    // Where nobody promised to report, nobody can say.
    let silent = Case::of(GOOD).at(14 * DAY).counted(&granted(20));
    assert_eq!(silent.ids(), "");
}

#[test]
fn what_a_workload_may_not_have_any_more_is_forgotten_and_the_rest_is_not() {
    let wide = declared(&reporting());
    let publish = parts(&wide, "/publish");
    let reads = parts(&wide, "/read");
    let narrow = declared(&reporting().replace("\"publish\"", "\"deploy\""));
    let mut counted = Counted::default();
    counted.granted(publish.iter().chain(&reads).cloned(), at(0));
    let seen = Seen::new(at(0)).then(counted, at(1));
    let kept = seen.retain_parts(&Watched::of(&narrow).parts(&name("release")));
    assert!(publish.iter().all(|part| kept.part(part).granted == 0));
    assert!(reads.iter().all(|part| kept.part(part).granted == 1));
    assert!(!reads.is_empty() && !publish.is_empty());
}

#[test]
fn a_workload_that_does_not_run_is_a_finding_unless_it_was_stopped() {
    let idle = "unused/workload:release";
    assert_eq!(Case::of(GOOD).at(90 * DAY - 1).ids(), "");
    assert_eq!(Case::of(GOOD).at(90 * DAY).ids(), idle);
    let mut started = Counted::default();
    started.started(at(10 * DAY));
    let ran = Case::of(GOOD).counted(&started);
    assert_eq!(ran.at(99 * DAY).ids(), "");
    let ran = Case::of(GOOD).counted(&started).at(100 * DAY);
    let found = ran.found();
    assert!(found[idle].says().contains("started since"), "{found:?}");
    for on in [
        BlockOn::Workload(name("release")),
        BlockOn::Issuer(name("github")),
        BlockOn::Tenant,
    ] {
        let case = Case::of(GOOD).blocked(on, 89 * DAY).at(90 * DAY);
        assert_eq!(case.ids(), "");
    }
}

#[test]
fn blocks_are_findings_when_they_are_old_and_something_can_be_done() {
    let series = |series: &str| BlockOn::Series {
        issuer: name("github"),
        series: series.to_owned(),
    };
    let mut case = Case::of(GOOD);
    for run in 0..1000 {
        case = case.blocked(series(&format!("repository_id,run_id:1/{run}")), run);
    }
    case = case
        .blocked(BlockOn::Workload(name("gone")), 0)
        .blocked(BlockOn::Owner(name("gone")), 0)
        .blocked(BlockOn::Workload(name("release")), 0);
    assert_eq!(case.ids(), "");
    let case = case.at(30 * DAY + 100);
    assert_eq!(
        case.ids(),
        "old_block/series:github old_block/workload:release"
    );
    let found = case.found();
    let What::OldBlock { count, oldest, .. } = found["old_block/series:github"] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (count, oldest),
        (101, at(0)),
        "the younger ones are not old"
    );
    // Nobody answers for what an offboarded owner has: that is the finding, from the first day on.
    let left = Case::of(GOOD).blocked(BlockOn::Owner(name("team-platform")), 0);
    assert_eq!(left.ids(), "ownerless/owner:team-platform");
    assert_eq!(left.at(40 * DAY).ids(), "ownerless/owner:team-platform");
    // Others answer for what was handed over: the owner in the files has nothing to be done about.
    let mut handed = Case::of(GOOD).blocked(BlockOn::Owner(name("team-platform")), 0);
    let (release, found) = handed.declared.workloads.iter_mut().next().unwrap();
    found.workload.owner = name("heirs");
    handed
        .declared
        .handed
        .insert(release.clone(), name("team-platform"));
    assert!(!handed.at(40 * DAY).ids().contains("owner:team-platform"));
    // Those whose account is gone stay out by their provider's word; what somebody set by hand is
    // to be looked at.
    let person = |n| Digest([n; 32]);
    let barred = Case::of(GOOD).blocked(BlockOn::Barred(person(1)), 0);
    assert_eq!(barred.at(40 * DAY).ids(), "");
    let by_hand = Case::of(GOOD)
        .blocked(BlockOn::Barred(person(1)), 0)
        .blocked(BlockOn::Person(person(1)), 0);
    assert_eq!(by_hand.at(40 * DAY).ids(), "old_block/person");
    let frozen = Case::of(GOOD).blocked(BlockOn::Tenant, 0).at(40 * DAY);
    assert_eq!(frozen.ids(), "old_block/tenant");
}

#[test]
fn a_low_disk_is_a_finding_until_there_is_more_room_than_low() {
    let case = |free_mib: u64, was_low: bool| Case {
        free: Some(free_mib << 20),
        was_low,
        ..Case::of(GOOD)
    };
    assert_eq!(case(512, false).ids(), "");
    assert_eq!(case(511, false).ids(), "low_disk/data");
    assert_eq!(case(639, true).ids(), "low_disk/data");
    assert_eq!(case(640, true).ids(), "");
    let steps = [case(449, true).found(), case(500, true).found()];
    assert_eq!(steps[0], steps[1], "what is kept changes by steps");
}

#[test]
fn a_helper_without_a_key_is_a_finding_for_a_week() {
    let mut counted = Counted::default();
    counted.handed_to_bearer(at(DAY / 2));
    let case = Case::of(GOOD).counted(&counted);
    assert_eq!(case.ids(), "bearer_child/workload:release");
    let said = case.found()["bearer_child/workload:release"].says();
    assert!(said.contains("without a key"), "{said}");
    // To the day: what comes in later the same day changes nothing that is kept.
    let mut later = counted.clone();
    later.handed_to_bearer(at(DAY / 2 + 60));
    assert_eq!(later, counted);
    let quiet = Case::of(GOOD).counted(&counted).at(9 * DAY);
    let quiet = quiet.counted(&Counted::default());
    assert_eq!(quiet.ids(), "");
}

#[test]
fn a_proof_of_two_keys_is_a_finding_for_a_week() {
    let mut counted = Counted::default();
    counted.shown_by_two_keys(RefusalId([1; 16]), at(0));
    counted.shown_by_two_keys(RefusalId([2; 16]), at(9));
    let case = Case::of(GOOD).counted(&counted);
    assert_eq!(case.ids(), "proof_by_two_keys/workload:release");
    let found = case.found();
    let said = found["proof_by_two_keys/workload:release"].remedy();
    assert!(said.contains(&RefusalId([2; 16]).to_string()), "{said}");
    let later = case.at(7 * DAY + 8).counted(&Counted::default());
    assert_eq!(later.ids(), "proof_by_two_keys/workload:release");
    assert_eq!(later.at(7 * DAY + 9).counted(&Counted::default()).ids(), "");
}

/// What a store would hold.
#[derive(Default)]
struct Documents(BTreeMap<String, Vec<u8>>);

impl Documents {
    fn kept(&self) -> Kept {
        let documents = self.0.iter();
        let documents: Vec<_> = documents
            .map(|(name, bytes)| (name.clone(), bytes.clone()))
            .collect();
        Kept::of(&documents)
    }

    /// Looks, and writes what there is to be written.
    fn look(&mut self, now: Time, found: &BTreeMap<String, What>) -> (Vec<String>, bool) {
        let Change { append, more } = self
            .kept()
            .change(now, found, &BTreeMap::new(), &BTreeMap::new())
            .unwrap();
        let Some(Append {
            notes, documents, ..
        }) = append
        else {
            return (Vec::new(), more);
        };
        for document in documents {
            match document.bytes {
                Some(bytes) => drop(self.0.insert(document.name, bytes)),
                None => assert!(self.0.remove(&document.name).is_some()),
            }
        }
        let notes = notes.iter();
        (
            notes
                .map(|note| format!("{} {}", note.kind, note.data))
                .collect(),
            more,
        )
    }
}

fn only(what: What) -> BTreeMap<String, What> {
    [(what.id(), what)].into()
}

#[test]
fn a_finding_opens_once_changes_without_an_entry_and_opens_again_as_another() {
    let what = |count: u64| What::NeverClosed {
        workload: name("release"),
        owner: name("team-platform"),
        count,
        first: at(0),
        last: at(1),
    };
    let mut documents = Documents::default();
    let opened = r#"finding.opened {"finding":"never_closed","workload":"release","owner":"team-platform","count":1,"first":1800000000000,"last":1800000001000}"#;
    assert_eq!(
        documents.look(at(2), &only(what(1))),
        (vec![opened.to_owned()], false)
    );
    assert_eq!(documents.look(at(3), &only(what(1))), (Vec::new(), false));
    assert_eq!(documents.look(at(4), &only(what(7))), (Vec::new(), false));
    let kept = documents.kept();
    let open = &kept.open["never_closed/workload:release"];
    assert_eq!((open.opened, &open.what), (at(2), &what(7)), "{kept:?}");
    let closed = r#"finding.closed {"opened":1800000002000,"closed":1800000009000,"finding":"never_closed","workload":"release","owner":"team-platform","count":7,"first":1800000000000,"last":1800000001000}"#;
    assert_eq!(
        documents.look(at(9), &BTreeMap::new()),
        (vec![closed.to_owned()], false)
    );
    assert_eq!(documents.kept().closed.len(), 1);
    let (again, _) = documents.look(at(10), &only(what(1)));
    assert_eq!(again.len(), 1);
    assert_eq!(
        documents.kept().open["never_closed/workload:release"].opened,
        at(10)
    );
}

#[test]
fn what_is_kept_of_findings_is_bounded_and_what_waits_is_said() {
    let many = |from: usize, to: usize| -> BTreeMap<String, What> {
        (from..to)
            .map(|n| What::StaticSecret {
                resource: name(&format!("r{n:05}")),
            })
            .map(|what| (what.id(), what))
            .collect()
    };
    let mut documents = Documents::default();
    let all = many(0, 5000);
    let mut rounds = 0;
    while documents.look(at(rounds), &all).1 {
        rounds += 1;
    }
    let kept = documents.kept();
    assert_eq!((kept.open.len(), kept.waiting), (4096, 904));
    assert!(rounds <= 20, "{rounds}");
    // The open ones stay, and what waited opens as they close.
    let fewer = many(1000, 5000);
    while documents.look(at(100), &fewer).1 {}
    let kept = documents.kept();
    assert_eq!((kept.open.len(), kept.waiting), (4000, 0));
    assert_eq!(kept.closed.len(), 256);
    while documents.look(at(200), &BTreeMap::new()).1 {}
    let names: Vec<_> = documents.0.keys().collect();
    assert_eq!(names, ["finding/closed", "finding/waiting"]);
}

/// Each kind about what is declared, as it stands in leaves and in the store for good.
fn declared_bytes() -> Vec<(What, &'static str)> {
    let (workload, owner) = (|| name("w"), || name("o"));
    vec![
        (
            What::Ownerless {
                owner: owner(),
                why: Unowned::NoMembers,
                workloads: 2,
            },
            r#"{"finding":"ownerless","owner":"o","why":"no_members","workloads":2}"#,
        ),
        (
            What::OnePersonOwner {
                owner: owner(),
                workloads: 1,
            },
            r#"{"finding":"one_person_owner","owner":"o","workloads":1}"#,
        ),
        (
            What::NamesOnly {
                workload: workload(),
                owner: owner(),
                issuer: name("github"),
            },
            r#"{"finding":"names_only","workload":"w","owner":"o","issuer":"github"}"#,
        ),
        (
            What::BearerAllowed {
                workload: workload(),
                owner: owner(),
            },
            r#"{"finding":"bearer_allowed","workload":"w","owner":"o"}"#,
        ),
        (
            What::StaticSecret {
                resource: name("r"),
            },
            r#"{"finding":"static_secret","resource":"r"}"#,
        ),
        (
            What::Unused {
                workload: workload(),
                owner: owner(),
                idle_since: at(0),
                ran: true,
            },
            r#"{"finding":"unused","workload":"w","owner":"o","idle_since":1800000000000,"ran":true}"#,
        ),
    ]
}

/// Each kind about what happened.
fn happened_bytes() -> Vec<(What, &'static str)> {
    let (workload, owner) = (|| name("w"), || name("o"));
    vec![
        (
            What::NearBound {
                workload: workload(),
                owner: owner(),
                bound: Bound::StartsPerHour,
                seen: 9,
                most: 10,
            },
            r#"{"finding":"near_bound","workload":"w","owner":"o","bound":"starts_per_hour","seen":9,"most":10}"#,
        ),
        (
            What::NeverUsed {
                workload: workload(),
                owner: owner(),
                resource: name("r"),
                detail: "t(identifier: a/*)".to_owned(),
                place: "p".to_owned(),
                actions: vec!["read".to_owned()],
                tasks: 20,
                since: at(0),
            },
            r#"{"finding":"never_used","workload":"w","owner":"o","resource":"r","detail":"t(identifier: a/*)","place":"p","actions":["read"],"tasks":20,"since":1800000000000}"#,
        ),
        (
            What::ProofByTwoKeys {
                workload: workload(),
                owner: owner(),
                count: 1,
                last: at(0),
                refusal: RefusalId([0; 16]),
            },
            r#"{"finding":"proof_by_two_keys","workload":"w","owner":"o","count":1,"last":1800000000000,"refusal":"ref_00000000000000000000000000"}"#,
        ),
        (
            What::BearerChild {
                workload: workload(),
                owner: owner(),
                last: at(0),
            },
            r#"{"finding":"bearer_child","workload":"w","owner":"o","last":1800000000000}"#,
        ),
        (
            What::OldBlock {
                on: "tenant".to_owned(),
                owner: None,
                count: 1,
                oldest: at(0),
            },
            r#"{"finding":"old_block","on":"tenant","count":1,"oldest":1800000000000}"#,
        ),
        (
            What::LowDisk { free_mib: 448 },
            r#"{"finding":"low_disk","free_mib":448}"#,
        ),
    ]
}

/// A finding of every kind, with all the members that one of its kind may have.
pub(crate) fn each_kind() -> Vec<What> {
    let all = declared_bytes().into_iter().chain(happened_bytes());
    let all = all.map(|(what, _)| what);
    let of_an_owner = What::OldBlock {
        on: "workload:w".to_owned(),
        owner: Some(name("o")),
        count: 1,
        oldest: at(0),
    };
    let never_closed = What::NeverClosed {
        workload: name("w"),
        owner: name("o"),
        count: 1,
        first: at(0),
        last: at(0),
    };
    let all: Vec<What> = all.chain([of_an_owner, never_closed]).collect();
    // Whoever adds a kind adds one of it here, or this does not compile or fails.
    let place = |what: &What| match what {
        What::NeverClosed { .. } => 0,
        What::Ownerless { .. } => 1,
        What::OnePersonOwner { .. } => 2,
        What::NamesOnly { .. } => 3,
        What::BearerAllowed { .. } => 4,
        What::BearerChild { .. } => 5,
        What::StaticSecret { .. } => 6,
        What::Unused { .. } => 7,
        What::NeverUsed { .. } => 8,
        What::NearBound { .. } => 9,
        What::ProofByTwoKeys { .. } => 10,
        What::OldBlock { .. } => 11,
        What::LowDisk { .. } => 12,
    };
    let places: BTreeSet<i32> = all.iter().map(place).collect();
    assert!(places.into_iter().eq(0..=12));
    all
}

#[test]
fn golden_bytes() {
    for (what, bytes) in declared_bytes().into_iter().chain(happened_bytes()) {
        assert_eq!(serde_json::to_string(&what).unwrap(), bytes);
        assert_eq!(serde_json::from_str::<What>(bytes).unwrap(), what);
        let opened = Opened {
            opened: at(5),
            what,
        };
        let text = serde_json::to_string(&opened).unwrap();
        assert_eq!(serde_json::from_str::<Opened>(&text).unwrap(), opened);
        for said in [opened.what.says(), opened.what.remedy()] {
            assert!(!said.is_empty() && !said.ends_with('.'), "{said}");
        }
    }
    let mut seen = Seen::new(at(0));
    let mut counted = Counted::default();
    counted.started(at(0));
    counted.ended(Cause::Deadline, at(1));
    counted.uses(Bound::Clients, 250, at(2));
    counted.handed_to_bearer(at(4));
    counted.shown_by_two_keys(RefusalId([0; 16]), at(3));
    counted.granted(["p/a".to_owned()], at(4));
    counted.used(["p/a".to_owned()], at(5));
    seen = seen.then(counted, at(3) + Span::from_seconds(1));
    let text = serde_json::to_string(&seen).unwrap();
    assert_eq!(
        text,
        r#"{"since":1800000000000,"started":1799971200000,"silent":{"count":1,"first":1800000001000,"last":1800000001000},"two_keys":[{"count":1,"first":1800000003000,"last":1800000003000},"ref_00000000000000000000000000"],"bearer_child":1799971200000,"used":{"clients":{"most":250,"at":1800000000000}},"parts":{"p/a":{"since":1799971200000,"granted":1,"used":1,"last":1800000000000}}}"#
    );
    assert_eq!(serde_json::from_str::<Seen>(&text).unwrap(), seen);
}
