//! From the process's arguments to its exit code.
//!
//! Read [`main`]. It parses, dispatches and reports errors; commands never end the process.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use super::args::{Args, Command};
use super::context::Context;
use super::exit::Exit;
use super::terminal::{Style, Terminal};
use super::{
    bench, compact, demo, expire, explain, generate, info, ingest, load, query, serve, sql, trace,
    vacuum,
};
use crate::{Error, Result};

/// Runs the command the arguments name, and says how it ended.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too. Whether they can be printed changes nothing.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let terminal = Terminal::detect();
    match run(args, terminal) {
        Ok(exit) => exit.into(),
        Err(error) => {
            report(&error, terminal);
            Exit::Failure(error.kind()).into()
        }
    }
}

/// Spans of whole traces that a statement of a server works through at a time, of which there are
/// many at once.
const SERVED_RANGE_ROWS: u32 = 1 << 19;

fn run(mut args: Args, terminal: Terminal) -> Result<Exit> {
    let log = match (&args.global.log, &args.command) {
        (Some(log), _) => log,
        // Whoever runs a server wants to see that it runs.
        (None, Command::Serve(_)) => "warn,tracelake=info",
        (None, _) => "warn",
    };
    start_log(log, terminal)?;
    if matches!(args.command, Command::Serve(_)) {
        let rows = &mut args.global.trace_range_rows;
        *rows = rows.or(Some(SERVED_RANGE_ROWS));
    }
    let context = Context::try_new(&args.global, terminal)?;
    let result = match args.command {
        Command::Demo(args) => demo::run(&context, &args),
        Command::Ingest(args) => ingest::run(&context, &args),
        Command::Query(args) => query::run(&context, &args),
        Command::Sql(args) => sql::run(&context, &args),
        Command::Trace(args) => trace::run(&context, &args),
        Command::Explain(args) => explain::run(&context, &args),
        Command::Info(args) => info::run(&context, &args),
        Command::Compact(args) => compact::run(&context, &args),
        Command::Expire(args) => expire::run(&context, &args),
        Command::Vacuum(args) => vacuum::run(&context, &args),
        Command::Bench(args) => bench::run(&context, &args),
        Command::Load(args) => load::run(&context, &args),
        Command::Serve(args) => serve::run(&context, &args),
        Command::Generate(args) => generate::run(&context, &args),
    };
    context.shut_down();
    result
}

/// Sends what the library logs to standard error.
fn start_log(level: &str, terminal: Terminal) -> Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Error::invalid_input("`--log` takes off, error, warn, info, debug or trace")
            .with_source(error)
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal.colors_stderr())
        .finish();
    // Someone who embeds this and logs already keeps their own.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Prints an error with its causes to standard error.
pub(crate) fn report(error: &Error, terminal: Terminal) {
    let label = Style::Red.paint("error:", terminal.colors_stderr());
    note(&format!("{label} {}", error.report()));
}

/// Prints a line to standard error. Nobody can be told if that fails.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a result to standard output; a reader that went away is no fault.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
