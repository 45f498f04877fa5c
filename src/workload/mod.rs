//! A synthetic workload: the traces of an invented meal-delivery platform, made from a seed.
//!
//! Read [`Workload`]; the platform itself is the tables of `topology.rs`. Pure: no I/O, no
//! clock; the same seed gives the same spans.

mod attributes;
mod day_curve;
mod fleet;
mod statements;
mod steps;
mod topology;
mod trace_maker;
#[expect(clippy::module_inception, reason = "a file is named for its main type")]
mod workload;

pub use workload::Workload;
