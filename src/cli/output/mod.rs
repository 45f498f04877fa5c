//! Results as bytes: tables for people, and the formats programs read.
//!
//! [`OutputFormat`] names the formats and makes a [`ResultWriter`] for one; a [`Destination`] is
//! where its bytes go. All but tables are written batch by batch, in bounded memory.

mod columnar;
mod csv;
mod destination;
mod format;
mod json;
mod layout;
mod table;

pub(crate) use destination::Destination;
pub(crate) use format::{Demand, OutputFormat, ResultWriter};
pub(crate) use table::TableOptions;
