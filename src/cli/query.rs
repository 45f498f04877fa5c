//! `tracelake query`: statements in, results out, for scripts as much as for people.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::args::QueryArgs;
use super::context::Context;
use super::execution::{self, Finished};
use super::exit::Exit;
use super::output::{Destination, OutputFormat, TableOptions};
use super::parameter::Parameter;
use super::quantity::{counted, duration};
use super::run::note;
use super::statement::{Statement, split};
use crate::engine::Session;
use crate::{Error, Result};

/// Statements and where they were found, for messages.
struct Batch {
    origin: String,
    statements: Vec<Statement>,
}

pub(crate) fn run(context: &Context, args: &QueryArgs) -> Result<Exit> {
    let format = choose_format(args);
    if format.is_binary() && args.output_file.is_none() && context.terminal.stdout {
        return Err(Error::invalid_input(
            "this format is not for a terminal; name a file with --output-file, or use a pipe",
        ));
    }
    let batches = read_statements(args, context.terminal.stdin)?;
    let session = Arc::new(context.block_on(context.open_lake()?.session())?);
    let mut out = match &args.output_file {
        Some(path) => Destination::file(path)?,
        None => Destination::stdout(),
    };
    let run = Run {
        session,
        parameters: &args.param,
        format,
        table: TableOptions {
            width: context.terminal.width().filter(|_| !out.is_file()),
            max_rows: (args.max_rows > 0).then_some(args.max_rows),
            expanded: false,
            color: context.terminal.colors_stdout() && !out.is_file(),
        },
        timing: args.timing,
    };
    match context.block_on(run.all(&batches, &mut out)) {
        // What a file was to hold is not all there: it does not appear.
        Ok(Exit::Interrupted) => Ok(Exit::Interrupted),
        Ok(exit) => match out.commit() {
            Ok(()) => Ok(exit),
            Err(error) if is_broken_pipe(&error) => Ok(Exit::Success),
            Err(error) => Err(error),
        },
        Err(_) if out.is_broken() => Ok(Exit::Success),
        Err(error) => Err(error),
    }
}

/// What the statements of one command line have in common.
struct Run<'a> {
    session: Arc<Session>,
    parameters: &'a [Parameter],
    format: OutputFormat,
    table: TableOptions,
    timing: bool,
}

impl Run<'_> {
    async fn all(&self, batches: &[Batch], out: &mut Destination) -> Result<Exit> {
        let total: usize = batches.iter().map(|batch| batch.statements.len()).sum();
        let mut number = 0;
        let mut result_count = 0;
        for batch in batches {
            for statement in &batch.statements {
                number += 1;
                let finished = self.one(&statement.text, result_count, out).await.map_err(
                    |error| match total {
                        1 => error,
                        _ => located(error, number, batch, statement),
                    },
                )?;
                result_count += usize::from(finished.has_rows);
                if finished.interrupted {
                    note("interrupted");
                    return Ok(Exit::Interrupted);
                }
                // The next statement may take long; this result does not wait for it.
                out.flush()?;
                if self.timing {
                    let rows = counted(finished.row_count, "row");
                    let elapsed = duration(finished.elapsed);
                    note(&format!("statement {number}: {rows} in {elapsed}"));
                }
            }
        }
        Ok(Exit::Success)
    }

    async fn one(&self, sql: &str, result_count: usize, out: &mut Destination) -> Result<Finished> {
        let to_file = out.is_file();
        execution::run(&self.session, sql, self.parameters, |schema| {
            if result_count > 0 && self.format.holds_one_result() {
                return Err(Error::invalid_input(
                    "this format holds one result; run the other statements by themselves",
                ));
            }
            if result_count > 0 && self.format == OutputFormat::Table {
                writeln!(out)?;
            }
            self.format.writer(schema, out, to_file, &self.table)
        })
        .await
    }
}

fn choose_format(args: &QueryArgs) -> OutputFormat {
    args.output.unwrap_or_else(|| {
        let path = args.output_file.as_deref();
        path.and_then(OutputFormat::of_path)
            .unwrap_or(OutputFormat::Table)
    })
}

fn read_statements(args: &QueryArgs, stdin_is_terminal: bool) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    for text in &args.command {
        batches.push(Batch::new("-c", text));
    }
    for path in &args.file {
        batches.push(Batch::new(&path.display().to_string(), &read_file(path)?));
    }
    let nothing_named = args.command.is_empty() && args.file.is_empty();
    if args.stdin.is_some() || (nothing_named && !stdin_is_terminal) {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| {
                Error::invalid_input("cannot read SQL from standard input").with_source(error)
            })?;
        batches.push(Batch::new("standard input", &text));
    }
    if batches.iter().all(|batch| batch.statements.is_empty()) {
        return Err(Error::invalid_input(
            "there is no statement to run; give SQL with -c, a file with -f, \
             or open the prompt with `tracelake sql`",
        ));
    }
    Ok(batches)
}

impl Batch {
    fn new(origin: &str, text: &str) -> Self {
        Self {
            origin: origin.to_string(),
            statements: split(text).into_statements(),
        }
    }
}

/// The text of a file of SQL.
pub(crate) fn read_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let kind = Error::from(std::io::Error::from(error.kind())).kind();
        Error::new(kind, format!("cannot read `{}`", path.display())).with_source(error)
    })
}

/// The error with the place of its statement before it.
fn located(error: Error, number: usize, batch: &Batch, statement: &Statement) -> Error {
    let place = format!(
        "statement {number} ({}, line {})",
        batch.origin, statement.line
    );
    Error::new(error.kind(), format!("{place}: {}", error.report()))
}

fn is_broken_pipe(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|source| source.kind() == std::io::ErrorKind::BrokenPipe)
}
