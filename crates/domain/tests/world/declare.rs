//! The lines of `given:`: what is declared, and what happens beside the commands.

use std::collections::BTreeMap;

use dayfly_domain::access::{Catalog, Detail, Field, FieldKind, Pattern, Resource, Scalar};
use dayfly_domain::*;

use super::script::span;
use super::{World, ZERO, delegated, name, place};

impl World {
    /// A world with the workload `release` and two resources.
    pub(crate) fn new() -> Self {
        let mut world = Self {
            catalog: Catalog::default(),
            bounds: Bounds::default(),
            workloads: Vec::new(),
            starts: 0,
            blocks: Blocks::default(),
            closed: Vec::new(),
            tasks: Vec::new(),
            claims: Vec::new(),
            spent: BTreeMap::new(),
            refused: Default::default(),
        };
        for line in [
            "resource artifacts https://artifacts.example",
            "resource deploy https://deploy.example/api",
            "workload release",
            "allow artifact@artifacts actions=read identifier=octo-repo/* scope=artifacts:read",
            "allow artifact@artifacts actions=read,publish identifier=octo-repo/* scope=artifacts:publish",
        ] {
            world.given(line);
        }
        world
    }

    /// Takes one line of `given:`.
    pub(crate) fn given(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let settings = || words.iter().filter_map(|word| word.split_once('='));
        match words[0] {
            "resource" => {
                let resource = Resource {
                    name: name(words[1]),
                    url: words[2].into(),
                    names_person: words.get(3) == Some(&"person"),
                };
                self.catalog.resources.insert(name(words[1]), resource);
            }
            "undeclared" => {
                self.catalog.resources.remove(&name(words[1]));
            }
            "type" => {
                let fields = settings().map(|(field, kind)| {
                    let kind = serde_json::from_value(kind.into()).unwrap();
                    (field.to_string(), kind)
                });
                self.catalog.types.insert(words[1].into(), fields.collect());
            }
            "bounds" => settings().for_each(|(key, value)| self.bound(key, value)),
            "starts" => self.starts = words[1].parse().unwrap(),
            "workload" => {
                let at = self
                    .workloads
                    .iter()
                    .position(|workload| workload.name.as_str() == words[1]);
                let mut workload = match at {
                    Some(at) => self.workloads.remove(at),
                    None => plain(words[1]),
                };
                settings().for_each(|(key, value)| set(&mut workload, key, value));
                self.workloads.push(workload);
            }
            "ceiling" => self.workloads.last_mut().unwrap().access.clear(),
            "allow" => {
                let detail = detail(&self.catalog, &words);
                self.workloads.last_mut().unwrap().access.push(detail);
            }
            "block" => self.blocks.set(Block {
                on: words[1].parse().unwrap(),
                task: None,
                since: ZERO,
            }),
            // `closed ATTEMPT [PART]`: what the platform said is over of whatever series is shown.
            "closed" => self.closed.push(Closed {
                attempt: words[1].parse().ok(),
                part: words.get(2).map(ToString::to_string),
                at: ZERO,
            }),
            "unblock" => self.blocks.lift(&words[1].parse().unwrap()),
            "deaf" => self.tasks[place(words[1]).0].heard.deaf = span(words[2]),
            "unheard" => self.tasks[place(words[1]).0].heard.last_seen = None,
            "stale" => self.tasks[place(words[1]).0].stale = Some(EpochOf::Owner(name(words[2]))),
            "delegated" => self.delegate(words[1], span(words[2])),
            other => panic!("nothing is declared by `{other}`"),
        }
    }

    fn bound(&mut self, key: &str, value: &str) {
        let value = value.parse().unwrap();
        match key {
            "clients" => self.bounds.clients = value,
            "live" => self.bounds.live_credentials = value,
            "details" => self.bounds.details = value,
            "depth" => self.bounds.depth = value as u32,
            other => panic!("no bound `{other}`"),
        }
    }

    fn delegate(&mut self, parent: &str, until: Span) {
        let (index, number, _) = place(parent);
        let task = &mut self.tasks[index].task;
        let parent = task.client(number).unwrap();
        let child = delegated(number, parent, ZERO + until, parent.access.clone());
        task.clients.push(child);
    }
}

fn plain(text: &str) -> Workload {
    let mut workload = Workload {
        name: name(text),
        owner: name("team-platform"),
        issuer: name("github"),
        kind: Kind::Ci,
        purpose: "a fixture".into(),
        matching: Match::default(),
        key: KeyRule {
            key: Vec::new(),
            series: Vec::new(),
            attempt: None,
            hint: String::new(),
        },
        repeat: Repeat::Refuse,
        window: Span::from_seconds(3600),
        heartbeat: Heartbeat::default(),
        ttl: Span::from_seconds(300),
        binding: Binding::Required,
        access: Vec::new(),
        linger: Span::ZERO,
        reopen: Reopen::Never,
        limits: Limits::default(),
        approval: None,
        delegation: None,
        acts_for: None,
    };
    set(&mut workload, "task", "job");
    workload
}

fn set(workload: &mut Workload, key: &str, value: &str) {
    match key {
        "task" => set_key(&mut workload.key, value),
        "issuer" => workload.issuer = name(value),
        "repeat" => workload.repeat = word(value),
        "window" => workload.window = span(value),
        "heartbeat" => workload.heartbeat.mode = word(value),
        "grace" => workload.heartbeat.grace = span(value),
        "ttl" => workload.ttl = span(value),
        "binding" => workload.binding = word(value),
        "linger" => workload.linger = span(value),
        "reopen" => {
            workload.reopen = match value {
                "true" => Reopen::Silent,
                "failed" => Reopen::SilentOrFailed,
                _ => Reopen::Never,
            }
        }
        "approval" => {
            workload.approval = value.split_once(',').map(|(people, within)| Approval {
                people: people.parse().unwrap(),
                within: span(within),
            });
        }
        "owner" => workload.owner = name(value),
        "match" => {
            let (claim, value) = value.split_once(':').unwrap();
            workload.matching.clauses.push(Clause {
                claim: claim.into(),
                any_of: vec![value.into()],
                implied: false,
            });
        }
        "delegation" if value == "none" => workload.delegation = None,
        "delegation" => workload.delegation = Some(delegation(&workload.name, value)),
        "for" => workload.acts_for = acts_for(value),
        "open" => workload.limits.open = value.parse().ok(),
        "starts_per_hour" => workload.limits.starts_per_hour = value.parse().ok(),
        other => panic!("a workload has no `{other}`"),
    }
}

/// Reads `ISSUER,…[/required][/SESSION]`, or `none`.
fn acts_for(value: &str) -> Option<ActsFor> {
    let mut parts = value.split('/');
    let from = parts.next().filter(|from| *from != "none")?;
    let mut acts_for = ActsFor {
        from: from.split(',').map(name).collect(),
        person: Needed::Optional,
        session: None,
    };
    for part in parts {
        match part {
            "required" => acts_for.person = Needed::Required,
            session => acts_for.session = Some(span(session)),
        }
    }
    Some(acts_for)
}

/// Reads `DEPTH/CLIENTS/TO,…[/actor]`, where `self` is the workload itself.
fn delegation(own: &Name, value: &str) -> Delegation {
    let mut parts = value.split('/');
    let mut part = || parts.next().unwrap();
    Delegation {
        depth: part().parse().unwrap(),
        clients: part().parse().unwrap(),
        to: part()
            .split(',')
            .map(|to| if to == "self" { own.clone() } else { name(to) })
            .collect(),
        actor: match parts.next() {
            None => Actor::Optional,
            Some(_) => Actor::Required,
        },
    }
}

fn word<T: serde::de::DeserializeOwned>(value: &str) -> T {
    serde_json::from_value(value.into()).unwrap()
}

/// The key rules of DESIGN section 3.
fn set_key(rule: &mut KeyRule, value: &str) {
    let (key, series, attempt): (&[&str], &[&str], _) = match value {
        "job" => (
            &["repository_id", "run_id", "check_run_id"],
            &["repository_id", "run_id"],
            Some("run_attempt"),
        ),
        "run" => (
            &["repository_id", "run_id"],
            &["repository_id", "run_id"],
            Some("run_attempt"),
        ),
        "uncounted" => (
            &["repository_id", "run_id"],
            &["repository_id", "run_id"],
            None,
        ),
        "pod" => (&["pod_uid"], &["pod_uid"], None),
        other => panic!("no task key `{other}`"),
    };
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    rule.key = texts(key);
    rule.series = texts(series);
    rule.attempt = attempt.map(ToString::to_string);
}

/// Reads `allow TYPE@RESOURCE FIELD=VALUE… [scope=NAME]`.
fn detail(catalog: &Catalog, words: &[&str]) -> Detail {
    let (kind, resource) = words[1].split_once('@').unwrap();
    let mut detail = Detail {
        kind: kind.into(),
        resource: name(resource),
        fields: BTreeMap::new(),
        scope: None,
    };
    for (field, value) in words.iter().filter_map(|word| word.split_once('=')) {
        if field == "scope" {
            detail.scope = Some(value.into());
            continue;
        }
        let listed = |separator: char| value.split(separator);
        let value = match catalog.field_kind(kind, field).unwrap() {
            FieldKind::Set => Field::Set(listed(',').map(Into::into).collect()),
            FieldKind::Path => Field::Path(
                listed('|')
                    .map(|text| Pattern::declared(text).unwrap())
                    .collect(),
            ),
            FieldKind::Exact => Field::Exact(listed('|').map(scalar).collect()),
            FieldKind::Max => Field::Max(value.parse().unwrap()),
            FieldKind::Min => Field::Min(value.parse().unwrap()),
        };
        detail.fields.insert(field.into(), value);
    }
    detail
}

fn scalar(text: &str) -> Scalar {
    match (text.parse(), text.parse()) {
        (Ok(value), _) => Scalar::Bool(value),
        (_, Ok(value)) => Scalar::Int(value),
        _ => Scalar::Text(text.into()),
    }
}
