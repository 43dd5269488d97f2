//! What the tests of documents read: files, links, and the server's own answers.

pub(crate) mod errors;
pub(crate) mod links;
pub(crate) mod tree;
