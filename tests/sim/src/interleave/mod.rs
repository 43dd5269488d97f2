//! Races that must not exist: a few use cases at once, in every order of their store calls.
//!
//! Each use case runs on a thread of its own, and only one of them at a time: before each call of
//! the store it hands over, and whoever goes on is chosen so that all orders are played in the end.
//! The store is the one in memory, the clock stands, and what decides is the code that is shipped.

mod applies;
mod approvals;
mod attempts;
mod baton;
mod endings;
mod explore;
mod fetches;
mod handovers;
mod pairs;
mod stalls;
mod uses;
mod words;
