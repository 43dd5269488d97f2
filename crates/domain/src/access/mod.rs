//! What is allowed, and the order on it: which request a ceiling covers, and what is then granted.
//!
//! One value, the [`Detail`], serves as declared ceiling, as a client's access and as what one
//! credential grants; the order on details is what "never more than" means everywhere.

mod cover;
mod detail;
mod given;
mod meet;
mod path;
mod request;
mod used;

pub use cover::{Uncovered, cover, detail_covers};
pub use detail::{Catalog, Detail, Field, FieldKind, Resource, Scalar};
pub use given::given_access;
pub use meet::detail_meet;
pub use path::{Pattern, check_text};
pub use request::{
    AccessRequest, RawField, RequestDetail, TokenAccess, first_access, token_access,
};
pub use used::AskedUse;
