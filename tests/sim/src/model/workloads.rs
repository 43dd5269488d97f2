//! Which workloads and owners there are, as the model knows them and as they are declared.

use dayfly_domain::Span;

use crate::world::{workload, workload_of};

/// How far below a root client, and how often in a task, may be handed over.
pub(crate) const DEPTH: usize = 2;
pub(crate) const CHILDREN: usize = 6;
/// How long a request waits for people.
pub(crate) const WITHIN: Span = Span::from_seconds(600);

/// Whose members answer for what, by their places among the people.
pub(crate) const OWNERS: [(&str, &[usize]); 2] = [("team", &[0, 1, 2]), ("others", &[2, 3])];

/// Who comes in by its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A job of the platform.
    Job,
    /// A job of the platform, on behalf of a person where there is one.
    Agent,
    /// A person.
    Person,
}

impl Proof {
    /// Who makes it.
    pub(crate) const fn issuer(self) -> &'static str {
        match self {
            Self::Job | Self::Agent => "github",
            Self::Person => "staff",
        }
    }
}

/// A workload as the model knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) owner: &'static str,
    pub(crate) proof: Proof,
    /// The repository whose jobs it matches; a series is a run of it.
    pub(crate) repository: u64,
    /// Whether a task is a whole run, which its jobs join.
    pub(crate) joins: bool,
    pub(crate) linger: Span,
    /// Whether its clients need no key.
    pub(crate) bearer: bool,
    /// Whether its clients may hand over.
    pub(crate) delegates: bool,
    /// How many people must approve before a task opens.
    pub(crate) people: usize,
}

const PLAIN: Workload = Workload {
    name: "",
    owner: "team",
    proof: Proof::Job,
    repository: 0,
    joins: false,
    linger: Span::ZERO,
    bearer: false,
    delegates: false,
    people: 0,
};

/// All of them; which are declared is a bit each.
pub(crate) const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "release",
        repository: 1,
        delegates: true,
        ..PLAIN
    },
    Workload {
        name: "matrix",
        repository: 2,
        joins: true,
        linger: Span::from_seconds(60),
        delegates: true,
        ..PLAIN
    },
    Workload {
        name: "passing",
        owner: "others",
        repository: 3,
        joins: true,
        ..PLAIN
    },
    Workload {
        name: "legacy",
        owner: "others",
        repository: 4,
        bearer: true,
        ..PLAIN
    },
    Workload {
        name: "guarded",
        owner: "others",
        repository: 5,
        people: 1,
        ..PLAIN
    },
    Workload {
        name: "vault",
        proof: Proof::Agent,
        repository: 6,
        delegates: true,
        people: 2,
        ..PLAIN
    },
    Workload {
        name: "assistant",
        proof: Proof::Agent,
        repository: 7,
        delegates: true,
        ..PLAIN
    },
    Workload {
        name: "repair",
        proof: Proof::Person,
        ..PLAIN
    },
];

impl Workload {
    /// As it is declared.
    pub(crate) fn declared(&self) -> String {
        let mut more = format!("linger = \"{}s\"\n", self.linger.seconds());
        more += "heartbeat = { mode = \"auto\", every = \"30s\", grace = \"5m\" }\n";
        if self.joins {
            more += "task = \"run\"\nrepeat = \"join\"\n";
        }
        if self.delegates {
            more += &format!(
                "delegation = {{ depth = {DEPTH}, clients = {CHILDREN}, to = [\"self\"] }}\n"
            );
        }
        if self.bearer {
            more += "token = { ttl = \"5m\", binding = \"optional\" }\n";
        }
        if self.people > 0 {
            let (within, people) = (WITHIN.seconds(), self.people);
            more += &format!(
                "approval = {{ by = \"owner\", within = \"{within}s\", people = {people} }}\n"
            );
        }
        match self.proof {
            Proof::Job => workload(self.name, self.owner, self.repository, &more),
            Proof::Agent => {
                more += "subject = { from = [\"staff\"] }\n";
                more += &format!(
                    "match = {{ issuer = \"github\", repository_id = \"{}\" }}\n",
                    self.repository
                );
                workload_of("agent", self.name, self.owner, &more)
            }
            Proof::Person => {
                more += "match = { issuer = \"staff\", email_verified = true }\n";
                workload_of("operator", self.name, self.owner, &more)
            }
        }
    }
}
