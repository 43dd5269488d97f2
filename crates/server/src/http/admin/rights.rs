//! Every route of the admin face with the right that it takes, and which role has which right: the one table.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::keeper::{Keeper, guard};
use super::{Admin, change, contain, ends, findings, keys, open, review};
use crate::config::Role;

/// What a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// To be known, whatever for.
    Known,
    /// To have a role, or to be a member of an owner.
    Belong,
    /// To look at tasks.
    Look,
    /// To read everything, people's names included.
    Read,
    /// To approve what people ask for.
    Approve,
    /// To say no to it.
    Deny,
    /// To contain, and to let run again.
    Contain,
    /// To change what may be granted, or what signs, for good.
    Administer,
}

/// Which role has which right.
pub(super) const fn allows(role: Role, right: Right) -> bool {
    match right {
        Right::Known | Right::Belong => true,
        Right::Look => match role {
            Role::Admin | Role::Operator | Role::Auditor | Role::Approver => true,
        },
        Right::Read => match role {
            Role::Admin | Role::Operator | Role::Auditor => true,
            Role::Approver => false,
        },
        // Nobody gives a right to what they want by running the server: an admin who approves is
        // named as an approver too.
        Right::Approve => match role {
            Role::Approver => true,
            Role::Admin | Role::Operator | Role::Auditor => false,
        },
        Right::Deny => match role {
            Role::Admin | Role::Operator | Role::Approver => true,
            Role::Auditor => false,
        },
        Right::Contain => match role {
            Role::Admin | Role::Operator => true,
            Role::Approver | Role::Auditor => false,
        },
        Right::Administer => match role {
            Role::Admin => true,
            Role::Operator | Role::Approver | Role::Auditor => false,
        },
    }
}

/// Whether members of an owner may have a route for what is their owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Members {
    /// They may, and the handler asks for the [`super::keeper::Scope`].
    May,
    /// They may not.
    MayNot,
}

macro_rules! routes {
    ($($name:ident $method:ident $path:literal $right:ident $members:ident $handler:path;)*) => {
        /// A route.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Route { $($name,)* }

        impl Route {
            /// Every route.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The right that it takes.
            pub(super) const fn right(self) -> Right {
                match self { $(Self::$name => Right::$right,)* }
            }

            /// Whether it is for members too.
            pub(super) const fn members(self) -> Members {
                match self { $(Self::$name => Members::$members,)* }
            }

            /// Its method and path.
            #[cfg(test)]
            pub(super) const fn place(self) -> (&'static str, &'static str) {
                match self { $(Self::$name => (stringify!($method), $path),)* }
            }
        }

        /// Every route with its guard before it. There is no other way to a handler.
        pub(super) fn guarded(keeper: &Keeper) -> Router<Admin> {
            Router::new()
                $(.route($path, $method($handler).route_layer(
                    from_fn_with_state((keeper.clone(), Route::$name), guard),
                )))*
        }
    };
}

routes! {
    Myself          get  "/operators/me"                              Known      MayNot open::myself;
    Tenants         get  "/admin"                                     Belong     May    super::tenants;
    Tasks           get  "/admin/{tenant}/tasks"                      Look       MayNot super::tasks;
    Task            get  "/admin/{tenant}/tasks/{task}"               Look       May    super::task;
    TaskEnd         post "/admin/{tenant}/tasks/{task}/end"           Contain    May    change::end;
    TaskApprove     post "/admin/{tenant}/tasks/{task}/approve"       Approve    May    change::approve;
    TaskDeny        post "/admin/{tenant}/tasks/{task}/deny"          Deny       May    change::deny;
    ClientEnd       post "/admin/{tenant}/clients/{client}/end"         Contain    May    ends::client;
    InstanceEnd     post "/admin/{tenant}/instances/end"              Contain    MayNot ends::instance;
    Why             get  "/admin/{tenant}/why/{refusal}"              Read       May    super::why;
    Trace           get  "/admin/{tenant}/trace"                      Read       May    super::trace;
    Reach           get  "/admin/{tenant}/reach"                      Read       MayNot super::reach;
    Findings        get  "/admin/{tenant}/findings"                   Read       May    findings::list;
    Receipt         get  "/admin/{tenant}/receipt/{task}"             Read       MayNot super::receipt;
    LedgerHead      get  "/admin/{tenant}/ledger/head"                Read       MayNot super::head;
    LedgerEntries   get  "/admin/{tenant}/ledger/entries"             Read       MayNot super::entries;
    LedgerBundle    get  "/admin/{tenant}/ledger/bundles/{first}"     Read       MayNot super::bundle;
    LedgerVerify    post "/admin/{tenant}/ledger/verify"              Read       MayNot super::verify;
    LedgerErase     post "/admin/{tenant}/ledger/erase"               Administer MayNot change::erase;
    Keys            get  "/admin/{tenant}/keys"                       Read       MayNot keys::list;
    KeysRotate      post "/admin/{tenant}/keys/rotate"                Contain    MayNot keys::rotate;
    KeysCompromise  post "/admin/{tenant}/keys/compromise"            Administer MayNot keys::compromise;
    Blocks          get  "/admin/{tenant}/blocks"                     Read       MayNot super::blocks;
    BlockSet        post "/admin/{tenant}/blocks"                     Contain    MayNot ends::block;
    Unblock         post "/admin/{tenant}/unblock"                    Contain    MayNot change::unblock;
    Owners          get  "/admin/{tenant}/owners"                     Read       MayNot contain::owners;
    OwnerEnd        post "/admin/{tenant}/owners/{name}/end"          Contain    May    ends::owner;
    OwnerOffboard   post "/admin/{tenant}/owners/{name}/offboard"     Contain    MayNot contain::offboard;
    OwnerRestore    post "/admin/{tenant}/owners/{name}/restore"      Contain    MayNot contain::restore;
    Review          get  "/admin/{tenant}/owners/{name}/review"       Read       May    review::show;
    ReviewSign      post "/admin/{tenant}/owners/{name}/review/sign"  Contain    May    review::sign;
    Workloads       get  "/admin/{tenant}/workloads"                  Read       MayNot contain::workloads;
    WorkloadEnd     post "/admin/{tenant}/workloads/{name}/end"       Contain    May    ends::workload;
    WorkloadDisable post "/admin/{tenant}/workloads/{name}/disable"   Contain    MayNot contain::disable;
    WorkloadEnable  post "/admin/{tenant}/workloads/{name}/enable"    Contain    MayNot contain::enable;
    IssuerEnd       post "/admin/{tenant}/issuers/{name}/end"         Contain    MayNot ends::issuer;
    TenantEnd       post "/admin/{tenant}/end"                        Contain    MayNot ends::tenant;
    Freeze          post "/admin/{tenant}/freeze"                     Contain    MayNot contain::freeze;
    Unfreeze        post "/admin/{tenant}/unfreeze"                   Contain    MayNot contain::unfreeze;
    Apply           post "/admin/{tenant}/apply"                      Administer MayNot change::apply;
    PolicyExplain   post "/admin/{tenant}/policy/explain"             Read       MayNot super::explain;
    PolicyDecisions get  "/admin/{tenant}/policy/decisions/{id}"      Read       MayNot super::decisions;
}
