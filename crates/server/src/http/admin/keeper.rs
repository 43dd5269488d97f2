//! Who is asked at the admin face, and what they may see: judged before any handler is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use dayfly_domain::{Name, Refusal, Rule, Stage, TaskId, Time};

use super::answer::Problem;
use super::rights::{Members, Right, Route, allows};
use super::socket::Peer;
use crate::app::{Actor, App, Tenant};
use crate::config::{AddressRates, Named, Operators, Role};
use crate::http::door;
use crate::rate::Buckets;
use crate::record::{self, EntryLine, RecordError, Sees, TaskView, Trace, TraceKey};
use crate::verify::{People, VerifiedPerson};

/// Who keeps the face.
#[derive(Clone)]
pub(super) enum Keeper {
    /// The kernel: whoever reaches the socket is the user of the server or root, and may do
    /// everything that an admin may.
    Socket,
    /// The provider of the operators.
    Provider(Arc<Provider>),
}

/// How people are known.
pub(super) struct Provider {
    pub(super) app: Arc<App>,
    pub(super) operators: Operators,
    pub(super) people: People,
    rates: AddressRates,
    unproven: Buckets<IpAddr>,
}

/// Who asks, once it is known.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Who it is; none at the socket where the kernel does not say.
    pub(super) actor: Option<Actor>,
    /// What they may do anywhere.
    pub(super) roles: Vec<Role>,
    /// When the token runs out; none at the socket.
    pub(super) expires: Option<Time>,
    /// What they may see of what they ask for.
    pub(super) scope: Scope,
}

/// What somebody may see.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// Everything.
    All,
    /// What belongs to these owners of these tenants.
    Owners(BTreeMap<Name, BTreeSet<Name>>),
}

impl Provider {
    pub(super) fn new(
        app: Arc<App>,
        operators: Operators,
        people: People,
        rates: AddressRates,
    ) -> Self {
        Self {
            app,
            operators,
            people,
            rates,
            unproven: Buckets::default(),
        }
    }

    /// Verifies the token of a request. An address whose tokens prove nothing has to wait before
    /// another is looked at.
    async fn person(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<VerifiedPerson, Problem> {
        let now = self.app.now();
        let from = from.map(door::neighbourhood);
        if let Some(from) = from {
            let rate = self.rates.unverified;
            self.unproven
                .check(&from, rate, now)
                .map_err(Problem::TooOften)?;
        }
        let judged = match bearer(headers) {
            Ok(token) => self.people.verify(token, now).await.map_err(|refusal| {
                if refusal.rule == Rule::KeysUnavailable {
                    let hint = refusal.hint;
                    return Problem::Unavailable(format!(
                        "the keys of the provider cannot be had: {hint}"
                    ));
                }
                Problem::Unauthenticated(Some(Box::new(refusal)))
            }),
            Err(problem) => Err(problem),
        };
        if let (Err(Problem::Unauthenticated(_)), Some(from)) = (&judged, from) {
            // One that is over its rate meanwhile is refused the next time.
            let _over = self.unproven.take(from, self.rates.unverified, now);
        }
        judged
    }

    /// Checks that nothing keeps a person out: of the tenant that is asked about, and of what is about
    /// none where every tenant does. One that is not there keeps nobody out.
    fn heed(&self, person: &VerifiedPerson, tenant: Option<&str>) -> Result<(), Problem> {
        let check = |tenant: &Tenant| self.app.check_operator(tenant, person).map_err(barred);
        if let Some(tenant) = tenant.and_then(|name| self.app.tenant(name)) {
            return check(tenant);
        }
        let mut kept = Ok(());
        for tenant in self.app.tenants() {
            kept = check(tenant);
            if kept.is_ok() {
                break;
            }
        }
        kept
    }

    /// The owners of which somebody is a member, by tenant.
    fn memberships(&self, person: Named<'_>) -> BTreeMap<Name, BTreeSet<Name>> {
        let of = |tenant: &Tenant| -> BTreeSet<Name> {
            let loaded = tenant.loaded();
            let owners = loaded.declared.owners.values();
            owners
                .filter(|owner| owner.members.iter().any(|who| who.names(person)))
                .map(|owner| owner.name.clone())
                .collect()
        };
        let all = self.app.tenants();
        all.map(|tenant| (tenant.name().clone(), of(tenant)))
            .filter(|(_, owners)| !owners.is_empty())
            .collect()
    }

    /// Admits a person to a route: by a role, or as a member.
    fn admit(&self, person: &VerifiedPerson, route: Route) -> Result<Caller, Problem> {
        let roles = self.operators.roles_of(person.named());
        let caller = |scope| Caller {
            actor: Some(Actor::Person {
                iss: person.iss().to_owned(),
                sub: person.sub().to_owned(),
            }),
            roles: roles.clone(),
            expires: Some(person.expires()),
            scope,
        };
        let owners = || self.memberships(person.named());
        if route.right() == Right::Known {
            return Ok(caller(Scope::Owners(owners())));
        }
        if roles.iter().any(|role| allows(*role, route.right())) {
            return Ok(caller(Scope::All));
        }
        match route.members() {
            Members::MayNot => Err(lacking(route.right(), &roles, false)),
            Members::May => {
                let owners = owners();
                if owners.is_empty() {
                    return Err(lacking(route.right(), &roles, true));
                }
                Ok(caller(Scope::Owners(owners)))
            }
        }
    }
}

/// Says what keeps somebody out, and whether to log in again does.
fn barred(refusal: Refusal) -> Problem {
    match refusal.rule.stage() {
        Stage::Ledger => Problem::Unavailable(format!(
            "whether you may act cannot be known: {}",
            refusal.hint
        )),
        Stage::Request
        | Stage::Proof
        | Stage::Binding
        | Stage::Match
        | Stage::Task
        | Stage::Access
        | Stage::Delegation
        | Stage::Policy => {
            let refusal = Box::new(refusal);
            if matches!(refusal.rule, Rule::RightsRemoved | Rule::BeforeRestore) {
                Problem::Unauthenticated(Some(refusal))
            } else {
                Problem::Barred(refusal)
            }
        }
    }
}

/// Says which role would do.
fn lacking(right: Right, roles: &[Role], members: bool) -> Problem {
    let words = |roles: &[Role], joint: &str| {
        let words: Vec<&str> = roles.iter().map(|role| role.word()).collect();
        words.join(joint)
    };
    let would: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| allows(*role, right))
        .collect();
    let or_member = if members {
        ", or that you are a member of the owner whose it is"
    } else {
        ""
    };
    let have = match roles {
        [] => "none".to_owned(),
        roles => words(roles, ", "),
    };
    Problem::Forbidden(format!(
        "this takes the role {}{or_member}; your roles: {have}",
        words(&would, " or ")
    ))
}

/// The one token of a request (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return Err(Problem::Unauthenticated(None));
    };
    let (scheme, token) = only
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(Problem::Unauthenticated(None))?;
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(token)
    } else {
        Err(Problem::Unauthenticated(None))
    }
}

/// Stands before every route.
pub(super) async fn guard(
    State((keeper, route)): State<(Keeper, Route)>,
    path: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let mut parts = path.iter();
    let tenant = parts.find(|(name, _)| *name == "tenant");
    let tenant = tenant.map(|(_, tenant)| tenant);
    let caller = match keeper {
        Keeper::Socket => {
            let peer = request.extensions().get::<ConnectInfo<Peer>>();
            let uid = peer.and_then(|ConnectInfo(peer)| peer.uid);
            Caller {
                actor: uid.map(|uid| Actor::Local { uid }),
                roles: vec![Role::Admin],
                expires: None,
                scope: Scope::All,
            }
        }
        Keeper::Provider(provider) => {
            let from = request.extensions().get::<door::Caller>();
            let from = from.map(|caller| caller.address);
            let person = provider.person(request.headers(), from).await?;
            provider.heed(&person, tenant)?;
            provider.admit(&person, route)?
        }
    };
    if let Some(tenant) = tenant {
        caller.scope.check_tenant(tenant, route)?;
    }
    request.extensions_mut().insert(caller);
    // To its end, also where whoever asked is gone: what is recorded must come into force.
    tokio::spawn(next.run(request))
        .await
        .map_err(|why| Problem::Fault(why.to_string()))
}

impl Scope {
    /// The owners of a tenant that count; none where all do.
    fn owners_in(&self, tenant: &Name) -> Option<BTreeSet<&Name>> {
        match self {
            Self::All => None,
            Self::Owners(owners) => Some(owners.get(tenant).into_iter().flatten().collect()),
        }
    }

    /// A member of nobody in a tenant does not learn whether there is one by that name.
    fn check_tenant(&self, tenant: &str, route: Route) -> Result<(), Problem> {
        match self {
            Self::All => Ok(()),
            Self::Owners(owners) if owners.keys().any(|name| name.as_str() == tenant) => Ok(()),
            Self::Owners(_) => Err(lacking(route.right(), &[], true)),
        }
    }

    /// Whether a tenant may be known.
    pub(super) fn holds_tenant(&self, tenant: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Owners(owners) => owners.contains_key(tenant),
        }
    }

    /// Whether everything counts.
    pub(super) const fn holds_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::Owners(_) => false,
        }
    }

    /// Whether something belongs to an owner that counts.
    pub(super) fn holds(&self, tenant: &Name, owner: Option<&Name>) -> bool {
        self.owners_in(tenant)
            .is_none_or(|owners| owner.is_some_and(|owner| owners.contains(owner)))
    }

    /// Checks that something belongs to an owner that counts; nothing that is known of it does not.
    pub(super) fn check(
        &self,
        tenant: &Name,
        owner: Option<&Name>,
        route: Route,
    ) -> Result<(), Problem> {
        if self.holds(tenant, owner) {
            Ok(())
        } else {
            Err(lacking(route.right(), &[], true))
        }
    }

    /// Checks the owner of a task, as its first entry names it.
    pub(super) fn check_task(
        &self,
        app: &App,
        tenant: &Tenant,
        task: TaskId,
        route: Route,
    ) -> Result<(), Problem> {
        match self {
            Self::All => Ok(()),
            Self::Owners(_) => {
                let found = record::task_record(app.store(), tenant.name(), task)?;
                let owner = found.as_ref().map(|found| &found.owner);
                self.check(tenant.name(), owner, route)
            }
        }
    }

    /// Withholds from a trace by whom and why what is of owners that do not count was stopped.
    pub(super) fn withhold(
        &self,
        app: &App,
        tenant: &Tenant,
        trace: &mut Trace,
    ) -> Result<(), Problem> {
        let own = trace.tasks.iter();
        let own: Vec<_> = own
            .map(|task| (task.workload.clone(), task.owner.clone()))
            .collect();
        self.seeing(tenant, &own, |sees| {
            record::withhold(app.store(), tenant.name(), sees, trace)
        })
    }

    /// The same of a task alone.
    pub(super) fn withhold_of_task(
        &self,
        app: &App,
        tenant: &Tenant,
        task: &mut TaskView,
    ) -> Result<(), Problem> {
        let own = [(task.workload.clone(), task.owner.clone())];
        self.seeing(tenant, &own, |sees| {
            record::withhold_of_task(app.store(), tenant.name(), sees, task)
        })
    }

    /// Has something withheld from whoever does not see everything. A workload counts by its owner, as
    /// declared now or as one of these tasks has it.
    fn seeing(
        &self,
        tenant: &Tenant,
        own: &[(Name, Name)],
        withhold: impl FnOnce(Sees<'_>) -> Result<(), RecordError>,
    ) -> Result<(), Problem> {
        let Some(owners) = self.owners_in(tenant.name()) else {
            return Ok(());
        };
        let loaded = tenant.loaded();
        let counts = |owner: &str| owners.iter().any(|own| own.as_str() == owner);
        let workload = |name: &str| {
            let declared = loaded.declared.workloads.values();
            let declared = declared.map(|found| (&found.workload.name, &found.workload.owner));
            let own = own.iter().map(|(workload, owner)| (workload, owner));
            let mut of = declared.chain(own);
            of.any(|(workload, owner)| workload.as_str() == name && counts(owner.as_str()))
        };
        Ok(withhold(Sees {
            owner: &counts,
            workload: &workload,
        })?)
    }

    /// Checks that a trace shows nothing but what is of owners that count, and hides nothing else
    /// behind a number.
    pub(super) fn check_trace(
        &self,
        tenant: &Name,
        key: &TraceKey,
        trace: &mut Trace,
    ) -> Result<(), Problem> {
        let Some(owners) = self.owners_in(tenant) else {
            return Ok(());
        };
        trace.related.retain(|other| owners.contains(&other.owner));
        if let TraceKey::Owner(owner) = key
            && owners.contains(owner)
        {
            // A client of theirs may have come into a task of somebody else, of which they are not told.
            let all = trace.tasks.len();
            trace.tasks.retain(|task| owners.contains(&task.owner));
            if trace.tasks.len() < all {
                let tasks: Vec<_> = trace.tasks.iter().map(|task| task.task).collect();
                let is_theirs = |line: &EntryLine| line.task.is_some_and(|of| tasks.contains(&of));
                trace.timeline.retain(is_theirs);
                let note =
                    format!("tasks of others that clients of {owner} came into are not shown");
                trace.notes.push(note);
            }
            return Ok(());
        }
        let counts = &trace.counts;
        let shown = u64::try_from(trace.tasks.len()).unwrap_or(u64::MAX);
        let all_shown =
            !counts.more && counts.live + counts.pending + counts.over + counts.ended == shown;
        let mut tasks = trace.tasks.iter();
        if shown > 0 && all_shown && tasks.all(|task| owners.contains(&task.owner)) {
            return Ok(());
        }
        Err(lacking(Route::Trace.right(), &[], true))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::Fault("a route without its guard".to_owned()))
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.actor.ok_or_else(|| {
            Problem::Forbidden("it is not known who asks, so nothing is changed".to_owned())
        })
    }
}
