//! The command line: what a person types, and what they see.
//!
//! `main.rs` calls [`main`]. Each command has a file of its own; results go to standard output,
//! everything else to standard error.

mod args;
mod context;
mod run;

mod bench;
mod compact;
mod demo;
mod expire;
mod explain;
mod generate;
mod info;
mod ingest;
mod load;
mod query;
mod serve;
mod sql;
mod trace;
mod vacuum;

mod catalog;
mod completion;
mod wanted_names;
mod known_names;
mod editor;
mod prompt_command;

mod execution;
mod exit;
mod input_files;
mod output;
mod pager;
mod parameter;
mod quantity;
mod statement;
mod terminal;

pub use run::main;
