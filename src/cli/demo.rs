//! `tracelake demo`: what tracelake does, shown on a lake made for the occasion.
//!
//! The queries are those of `queries/`, which the tests run as well.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::args::DemoArgs;
use super::context::Context;
use super::execution::{self, texts};
use super::exit::Exit;
use super::generate::{fill, hours_until_now, progress_bar, unix_nano};
use super::output::{Destination, OutputFormat, TableOptions};
use super::parameter::{self, Parameter};
use super::quantity::{count, counted, duration};
use super::run::{note, print};
use super::sql::Prompt;
use super::terminal::Style;
use crate::engine::{Lake, Session};
use crate::span::{SpanId, SpanKind, StatusCode};
use crate::trace::{TraceSpan, TraceTree, Waterfall};
use crate::workload::Workload;
use crate::{Error, ErrorKind, Result};

/// Hours the demo's traces are spread over.
const HOURS: u32 = 3;

/// Rows shown of each result: enough to see what it is about.
const ROWS: usize = 8;

/// The width drawn where nobody tells one.
const WIDTH: usize = 100;

/// The queries shown, in an order that goes from the whole to the detail.
const QUERIES: [&str; 5] = [
    include_str!("../../queries/traffic_per_hour.sql"),
    include_str!("../../queries/service_dependencies.sql"),
    include_str!("../../queries/error_breakdown.sql"),
    include_str!("../../queries/n_plus_one.sql"),
    include_str!("../../queries/slowest_traces.sql"),
];

/// A trace worth looking at: of a size that fits a screen, through many services, with errors.
const TELLING_TRACE: &str = "\
SELECT trace_id
FROM spans
GROUP BY trace_id
HAVING count(*) BETWEEN 12 AND 36
ORDER BY count(*) FILTER (WHERE has_error) > 0 DESC, count(DISTINCT service_name) DESC, trace_id
LIMIT 1";

const SPANS_OF_TRACE: &str = "\
SELECT span_id, parent_span_id, CAST(start_time AS BIGINT), duration_nano,
  service_name, name, kind, status_code
FROM spans
WHERE trace_id = $trace_id";

pub(crate) fn run(context: &Context, args: &DemoArgs) -> Result<Exit> {
    // Deleted when the demo ends, however it ends.
    let temporary = match &args.keep {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("tracelake-demo-")
                .tempdir()?,
        ),
    };
    let directory = match (&args.keep, &temporary) {
        (Some(directory), _) => directory.as_path(),
        (None, Some(temporary)) => temporary.path(),
        (None, None) => return Err(Error::internal("the demo has no directory")),
    };
    let Some(lake) = make_lake(context, args, directory)? else {
        note("interrupted");
        return Ok(Exit::Interrupted);
    };
    let session = Arc::new(context.block_on(lake.session())?);
    for query in QUERIES {
        if !show_query(context, &session, &Query::read(query))? {
            return Ok(Exit::Interrupted);
        }
    }
    show_trace(context, &session)?;
    if !(context.terminal.stdin && context.terminal.stdout) {
        return Ok(Exit::Success);
    }
    print("\nNow it is your turn. \\? lists the commands, Ctrl-D leaves. Try:\n")?;
    print("  SELECT name, count(*) FROM spans GROUP BY name ORDER BY 2 DESC LIMIT 10;\n")?;
    Prompt::new(context, session, 10_000).converse()
}

/// The demo's lake, or `None` after Ctrl-C. One that was kept is used as it is.
fn make_lake(context: &Context, args: &DemoArgs, directory: &Path) -> Result<Option<Lake>> {
    let url = directory.display().to_string();
    match context.open(&url) {
        Ok(lake) => return Ok(Some(lake)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let start = unix_nano(hours_until_now(HOURS))?;
    let length = Duration::from_secs(3600) * HOURS;
    let workload = Workload::new(args.seed, args.spans, start, length);
    let lake = context.create(&url, context.config.clone())?;
    let bar = progress_bar(context, args.spans);
    let begin = std::time::Instant::now();
    let written = context.block_on(async {
        let written = fill(&lake, workload, context.config.ingest.batch_spans, &bar).await?;
        if !written.interrupted {
            lake.compact(Arc::new(|_| {})).await?;
        }
        Ok::<_, Error>(written)
    })?;
    bar.finish_and_clear();
    if written.interrupted {
        return Ok(None);
    }
    print(&format!(
        "A lake of {} spans, made and compacted in {}, in {url}.",
        count(written.span_count),
        duration(begin.elapsed()),
    ))?;
    Ok(Some(lake))
}

/// A ready query: what it answers, its text, and values for its placeholders.
#[derive(Debug, PartialEq)]
struct Query<'a> {
    title: &'a str,
    question: &'a str,
    sql: &'a str,
    parameters: Vec<Parameter>,
}

impl<'a> Query<'a> {
    /// Reads the head of comments, `-- key: value`, and the statement after it.
    fn read(text: &'a str) -> Self {
        let mut query = Self {
            title: "",
            question: "",
            sql: text.trim(),
            parameters: Vec::new(),
        };
        while let Some(rest) = query.sql.strip_prefix("-- ") {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            match line.split_once(": ") {
                Some(("title", title)) => query.title = title,
                Some(("question", question)) => query.question = question,
                Some(("param", value)) => query.parameters.extend(parameter::parse(value).ok()),
                _ => {}
            }
            query.sql = after;
        }
        query.sql = query.sql.trim().trim_end_matches(';');
        query
    }
}

/// Shows a query and the beginning of its result; false after Ctrl-C.
fn show_query(context: &Context, session: &Arc<Session>, query: &Query<'_>) -> Result<bool> {
    let color = context.terminal.colors_stdout();
    let table = TableOptions {
        width: Some(context.terminal.width().unwrap_or(WIDTH)),
        max_rows: Some(ROWS),
        expanded: false,
        color,
    };
    let mut out = Destination::stdout();
    let shown = (|| {
        writeln!(out, "\n{}", Style::Bold.paint(query.title, color))?;
        writeln!(out, "{}\n", query.question)?;
        for line in query.sql.lines() {
            writeln!(out, "  {}", Style::Dim.paint(line, color))?;
        }
        writeln!(out)?;
        let run = execution::run(session, query.sql, &query.parameters, |schema| {
            OutputFormat::Table.writer(schema, &mut out, false, &table)
        });
        let finished = context.block_on(run)?;
        out.flush()?;
        Ok::<_, Error>(finished)
    })();
    match shown {
        Err(_) if out.is_broken() => Ok(false),
        Err(error) => Err(error),
        Ok(finished) if finished.interrupted => Ok(false),
        Ok(finished) => {
            note(&format!("in {}", duration(finished.elapsed)));
            Ok(true)
        }
    }
}

/// Draws one trace as a tree with its waterfall.
fn show_trace(context: &Context, session: &Session) -> Result<()> {
    let color = context.terminal.colors_stdout();
    let drawing = async {
        let found = texts(session, TELLING_TRACE, &[]).await?;
        let Some(trace_id) = found.into_iter().flatten().next() else {
            return Ok(None);
        };
        let parameter = parameter::text("trace_id", &trace_id);
        let begin = std::time::Instant::now();
        let rows = texts(session, SPANS_OF_TRACE, &[parameter]).await?;
        let elapsed = begin.elapsed();
        let spans = rows
            .iter()
            .map(|row| read_span(row))
            .collect::<Result<Vec<_>>>()?;
        Ok::<_, Error>(Some((trace_id, spans, elapsed)))
    };
    let Some((trace_id, spans, elapsed)) = context.block_on(drawing)? else {
        return Ok(());
    };
    let title = format!("One trace: {trace_id}");
    print(&format!("\n{}", Style::Bold.paint(&title, color)))?;
    let read = counted(spans.len() as u64, "span");
    print(&format!("Found by its id, {read}, and drawn.\n"))?;
    let width = context.terminal.width().unwrap_or(WIDTH);
    let waterfall = Waterfall::new(width).with_color(color);
    print(&waterfall.draw(&TraceTree::new(spans)).join("\n"))?;
    note(&format!("read in {}", duration(elapsed)));
    Ok(())
}

/// A row of [`SPANS_OF_TRACE`].
fn read_span(row: &[String]) -> Result<TraceSpan> {
    let odd = || Error::internal("a span of the demo cannot be read");
    let [id, parent, start, length, service, name, kind, status] = row else {
        return Err(odd());
    };
    Ok(TraceSpan {
        span_id: SpanId::parse(id)?,
        parent_span_id: (!parent.is_empty())
            .then(|| SpanId::parse(parent))
            .transpose()?,
        start_time_unix_nano: start.parse().map_err(|_| odd())?,
        duration_nano: length.parse().ok(),
        service_name: service.clone(),
        name: name.clone(),
        kind: SpanKind::from_name(kind).ok_or_else(odd)?,
        status_code: StatusCode::from_name(status).ok_or_else(odd)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::statement::split;

    #[test]
    fn every_query_shown_has_a_title_a_question_and_one_statement() {
        for text in QUERIES {
            let query = Query::read(text);
            assert!(!query.title.is_empty(), "{text}");
            assert!(!query.question.is_empty(), "{text}");
            assert_eq!(split(query.sql).into_statements().len(), 1, "{text}");
            let placeholders = text.matches("-- param: ").count();
            assert_eq!(query.parameters.len(), placeholders, "{text}");
        }
    }

    #[test]
    fn a_span_is_read_from_its_row() {
        let row = [
            "00000000000000aa",
            "",
            "5",
            "7",
            "shop",
            "GET /",
            "SERVER",
            "ERROR",
        ]
        .map(str::to_string);
        let span = read_span(&row).expect("the row is well formed");
        assert_eq!(span.parent_span_id, None);
        assert_eq!(span.duration_nano, Some(7));
        assert_eq!(span.status_code, StatusCode::Error);
        assert!(read_span(&row[1..]).is_err());
    }
}
