//! `tracelake trace`: one trace by its id, drawn, or as rows.

use std::sync::Arc;

use super::args::TraceArgs;
use super::context::Context;
use super::execution;
use super::exit::Exit;
use super::output::{Destination, OutputFormat, TableOptions};
use super::parameter;
use super::quantity::duration;
use super::run::{note, print};
use crate::engine::Lake;
use crate::span::TraceId;
use crate::trace::Waterfall;
use crate::{Error, Result};

/// The width drawn where nobody tells one.
const WIDTH: usize = 100;

/// What `--output` writes: the spans of the trace in tree order.
const ROWS: &str = "SELECT * FROM trace($trace_id, $max_clock_skew)";

pub(crate) fn run(context: &Context, args: &TraceArgs) -> Result<Exit> {
    let lake = context.open_lake()?;
    match args.output {
        None => draw(context, &lake, args),
        Some(format) => write(context, &lake, args, format),
    }
}

fn draw(context: &Context, lake: &Lake, args: &TraceArgs) -> Result<Exit> {
    let begin = std::time::Instant::now();
    let trace = context.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            trace = lake.query_trace(args.id, None) => Some(trace),
        }
    });
    let Some(trace) = trace else {
        return Ok(Exit::Interrupted);
    };
    let mut trace = trace?.ok_or_else(|| unknown(args.id))?;
    if let Some(limit) = args.max_clock_skew {
        trace = Arc::new(trace.corrected(i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX))?);
    }
    let elapsed = begin.elapsed();
    let max_spans = match args.max_spans {
        0 => usize::MAX,
        most => most,
    };
    let waterfall = Waterfall::new(context.terminal.width().unwrap_or(WIDTH))
        .with_color(context.terminal.colors_stdout())
        .with_ascii(args.ascii)
        .with_max_spans(max_spans)
        .with_critical_path(trace.on_critical_path());
    print(&waterfall.draw(&trace.tree()?).join("\n"))?;
    if trace.copy_count() > 0 {
        note(&format!(
            "{} copies of spans are not shown",
            trace.copy_count()
        ));
    }
    note(&format!("read in {}", duration(elapsed)));
    Ok(Exit::Success)
}

fn write(context: &Context, lake: &Lake, args: &TraceArgs, format: OutputFormat) -> Result<Exit> {
    if format.is_binary() && context.terminal.stdout {
        return Err(Error::invalid_input(
            "this format is not for a terminal; use a pipe",
        ));
    }
    let session = Arc::new(context.block_on(lake.session())?);
    let mut out = Destination::stdout();
    let table = TableOptions {
        width: context.terminal.width(),
        max_rows: (args.max_spans > 0).then_some(args.max_spans),
        expanded: false,
        color: context.terminal.colors_stdout(),
    };
    if context.block_on(lake.query_trace(args.id, None))?.is_none() {
        return Err(unknown(args.id));
    }
    let skew = args
        .max_clock_skew
        .map(|limit| format!("{}ns", limit.as_nanos()));
    let parameters = [
        parameter::text("trace_id", &args.id.to_string()),
        parameter::text("max_clock_skew", &skew.unwrap_or_default()),
    ];
    let run = execution::run(&session, ROWS, &parameters, |schema| {
        format.writer(schema, &mut out, false, &table)
    });
    let finished = context.block_on(run);
    match finished {
        Ok(finished) if finished.interrupted => Ok(Exit::Interrupted),
        Ok(_) => out.commit().map(|()| Exit::Success),
        Err(_) if out.is_broken() => Ok(Exit::Success),
        Err(error) => Err(error),
    }
}

fn unknown(id: TraceId) -> Error {
    Error::not_found(format!("no trace of this id is in the lake; id=`{id}`"))
}
