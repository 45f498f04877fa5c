//! `tracelake explain`: how a query is answered, and what it did not have to read.

use std::io::Read;

use super::args::ExplainArgs;
use super::context::Context;
use super::exit::Exit;
use super::run::print;
use super::statement::split;
use crate::{Error, Result};

pub(crate) fn run(context: &Context, args: &ExplainArgs) -> Result<Exit> {
    let mut text = args.sql.clone();
    if text == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| {
                Error::invalid_input("cannot read SQL from standard input").with_source(error)
            })?;
    }
    let statements = split(&text).into_statements();
    let [statement] = statements.as_slice() else {
        return Err(Error::invalid_input(format!(
            "explain takes one statement, not {}",
            statements.len()
        )));
    };
    let session = context.block_on(context.open_lake()?.session())?;
    let explained = context.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            explained = session.explain(&statement.text) => Some(explained),
        }
    });
    match explained {
        Some(explained) => {
            print(explained?.to_string().trim_end())?;
            Ok(Exit::Success)
        }
        None => Ok(Exit::Interrupted),
    }
}
