//! What must hold whatever is asked, in whatever order, at whatever times.

#[cfg(test)]
mod laws {
    mod access;
    mod admission;
    mod approvals;
    mod delegation;
    mod runs;
    mod subjects;
    mod subtree;
    mod uses;
}
