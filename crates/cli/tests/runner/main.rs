//! The runner against a small server that checks every proof and remembers every call.

mod fake;
mod harness;
mod resource;

mod grants;
mod keyless;
mod loopback;
mod printed;
mod processes;
mod proxy;
