//! Everything CI does, as one command.
fn main() {}
