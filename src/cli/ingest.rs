//! `tracelake ingest`: files in, and an account of what became of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde_json::json;

use super::args::IngestArgs;
use super::context::Context;
use super::exit::Exit;
use super::input_files;
use super::quantity::{bytes, count, counted, duration, per_second, ratio};
use super::run::{note, print};
use crate::engine::{IngestProgress, IngestReport};
use crate::{Error, Result};

/// How often progress is drawn.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn run(context: &Context, args: &IngestArgs) -> Result<Exit> {
    // Before the lake is made: a mistyped name should leave nothing behind.
    let files = input_files::expand(&args.files, args.format)?;
    if files.passed_over > 0 {
        note(&format!(
            "passed over {} that do not look like traces; --format takes them in",
            counted(files.passed_over, "file")
        ));
    }
    let source_count = files.sources.len() as u64;
    let mut config = context.config.clone();
    config.ingest.strict = args.strict;
    config.ingest.batch_spans = usize::try_from(args.batch_spans).unwrap_or(usize::MAX);
    let lake = context.create(&context.lake_url, config)?;

    let progress = Arc::new(IngestProgress::default());
    let bar = progress_bar(context.terminal.stderr);
    let ingest = lake.ingest(files.sources, Arc::clone(&progress));
    let outcome = context.block_on(watch(ingest, &progress, &bar));
    bar.finish_and_clear();
    let (report, interrupted) = match outcome {
        Outcome::Ended { result, stopped } => (
            result.map_err(|error| with_committed(error, &progress))?,
            stopped,
        ),
        Outcome::Abandoned => {
            note(&format!("interrupted; {}", committed(&progress)));
            return Ok(Exit::Interrupted);
        }
    };
    if args.json {
        print(&as_json(&report, source_count, interrupted))?;
    } else {
        for line in rejection_lines(&report) {
            note(&line);
        }
        print(&as_text(&report, source_count, interrupted))?;
    }
    Ok(if interrupted {
        Exit::Interrupted
    } else {
        Exit::Success
    })
}

enum Outcome {
    /// The ingest came back by itself; after Ctrl-C with what was committed until then.
    Ended {
        result: Result<IngestReport>,
        stopped: bool,
    },
    /// A second Ctrl-C: it was not waited for.
    Abandoned,
}

/// Waits for an ingest, draws its progress, and asks it to stop at Ctrl-C.
async fn watch(
    ingest: impl Future<Output = Result<IngestReport>>,
    progress: &IngestProgress,
    bar: &ProgressBar,
) -> Outcome {
    let mut ingest = Box::pin(ingest);
    let mut interrupt = Box::pin(tokio::signal::ctrl_c());
    let mut ticks = tokio::time::interval(TICK);
    let mut stopped = false;
    loop {
        tokio::select! {
            biased;
            _ = &mut interrupt => {
                if stopped {
                    return Outcome::Abandoned;
                }
                stopped = true;
                progress.stop.store(true, Ordering::Relaxed);
                bar.suspend(|| note("stopping; press Ctrl-C again not to wait"));
                interrupt = Box::pin(tokio::signal::ctrl_c());
            }
            result = &mut ingest => return Outcome::Ended { result, stopped },
            _ = ticks.tick() => draw(progress, bar),
        }
    }
}

fn draw(progress: &IngestProgress, bar: &ProgressBar) {
    let total = progress.bytes_total.load(Ordering::Relaxed);
    // Standard input does not tell its length; then there is no estimate either.
    if total > 0 && bar.length() != Some(total) {
        bar.set_length(total);
        bar.set_style(style(
            "{bar:24} {bytes}/{total_bytes}  {msg}  {elapsed}, {eta} left",
        ));
    }
    bar.set_position(progress.bytes_read.load(Ordering::Relaxed));
    let spans = progress.span_count.load(Ordering::Relaxed);
    let rate = per_second(spans, bar.elapsed());
    let mut message = format!("{} spans, {} spans/s", count(spans), count(rate));
    let rejected = progress.rejection_count.load(Ordering::Relaxed);
    if rejected > 0 {
        message.push_str(&format!(", {} rejected", count(rejected)));
    }
    bar.set_message(message);
    bar.tick();
}

fn progress_bar(visible: bool) -> ProgressBar {
    let target = if visible {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(style("{spinner} {bytes}  {msg}  {elapsed}"));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "bytes",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // A drawing that fails is not drawn.
                let _ = out.write_str(&bytes(state.pos()));
            },
        )
        .with_key(
            "total_bytes",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&bytes(state.len().unwrap_or(0)));
            },
        )
}

fn committed(progress: &IngestProgress) -> String {
    let spans = progress.committed_span_count.load(Ordering::Relaxed);
    format!("{} were committed before", counted(spans, "span"))
}

/// The error, with what the lake holds in spite of it.
fn with_committed(error: Error, progress: &IngestProgress) -> Error {
    if progress.committed_span_count.load(Ordering::Relaxed) == 0 {
        return error;
    }
    Error::new(
        error.kind(),
        format!("{} ({})", error.report(), committed(progress)),
    )
}

/// What was skipped: the first ones in full, then how many more.
fn rejection_lines(report: &IngestReport) -> Vec<String> {
    let mut lines: Vec<String> = report
        .rejections
        .iter()
        .map(|(source, rejection)| {
            let spans = match rejection.span_count {
                0 | 1 => String::new(),
                more => format!(" ({})", counted(more, "span")),
            };
            let (location, reason) = (&rejection.location, &rejection.reason);
            format!("skipped {source}: {location}: {reason}{spans}")
        })
        .collect();
    let shown = report.rejections.len() as u64;
    if report.rejection_count > shown {
        let more = counted(report.rejection_count - shown, "more place");
        lines.push(format!("skipped {more} like these"));
    }
    lines
}

fn as_text(report: &IngestReport, source_count: u64, interrupted: bool) -> String {
    let mut text = format!(
        "{} {} of {} from {} in {} ({} spans/s)",
        if interrupted {
            "interrupted; committed"
        } else {
            "ingested"
        },
        counted(report.span_count, "span"),
        trace_count(report),
        counted(source_count, "input"),
        duration(report.elapsed),
        count(per_second(report.span_count, report.elapsed)),
    );
    text.push_str(&format!(
        "\nread {}, wrote {} in {} and {} ({:.1} bytes a span)",
        bytes(report.bytes_read),
        bytes(report.bytes_written),
        counted(report.file_count, "file"),
        counted(report.commit_count, "commit"),
        ratio(report.bytes_written, report.span_count),
    ));
    if report.rejection_count > 0 {
        text.push_str(&format!(
            "\nskipped {} in {}",
            counted(report.rejected_span_count, "span"),
            counted(report.rejection_count, "place"),
        ));
    }
    text
}

/// Of very many traces only so many are told apart.
fn trace_count(report: &IngestReport) -> String {
    let traces = counted(report.trace_count, "trace");
    if report.trace_count_is_minimum {
        return format!("at least {traces}");
    }
    traces
}

fn as_json(report: &IngestReport, source_count: u64, interrupted: bool) -> String {
    let rejections: Vec<_> = report
        .rejections
        .iter()
        .map(|(source, rejection)| {
            json!({
                "source": source,
                "location": rejection.location.to_string(),
                "reason": rejection.reason,
                "span_count": rejection.span_count,
            })
        })
        .collect();
    json!({
        "interrupted": interrupted,
        "source_count": source_count,
        "span_count": report.span_count,
        "trace_count": report.trace_count,
        "trace_count_is_minimum": report.trace_count_is_minimum,
        "rejected_span_count": report.rejected_span_count,
        "rejection_count": report.rejection_count,
        "rejections": rejections,
        "file_count": report.file_count,
        "commit_count": report.commit_count,
        "bytes_read": report.bytes_read,
        "bytes_written": report.bytes_written,
        "elapsed_seconds": report.elapsed.as_secs_f64(),
        "spans_per_second": per_second(report.span_count, report.elapsed),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> IngestReport {
        IngestReport {
            span_count: 1_000,
            trace_count: 100,
            rejected_span_count: 7,
            rejection_count: 25,
            bytes_written: 60_000,
            bytes_read: 2 << 20,
            file_count: 2,
            commit_count: 1,
            elapsed: Duration::from_millis(500),
            ..IngestReport::default()
        }
    }

    #[test]
    fn the_summary_has_counts_rate_and_bytes_a_span() {
        let text = as_text(&report(), 3, false);
        assert_eq!(
            text,
            "ingested 1,000 spans of 100 traces from 3 inputs in 500.0 ms (2,000 spans/s)\n\
             read 2.0 MiB, wrote 58.6 KiB in 2 files and 1 commit (60.0 bytes a span)\n\
             skipped 7 spans in 25 places"
        );
        let many = IngestReport {
            trace_count_is_minimum: true,
            ..report()
        };
        assert!(
            as_text(&many, 1, false).contains("1,000 spans of at least 100 traces from 1 input ")
        );
        assert!(as_text(&report(), 3, true).starts_with("interrupted; committed 1,000 spans"));
    }

    #[test]
    fn rejections_beyond_those_kept_are_counted() {
        assert_eq!(
            rejection_lines(&report()),
            ["skipped 25 more places like these"]
        );
        assert!(rejection_lines(&IngestReport::default()).is_empty());
    }

    #[test]
    fn the_json_summary_is_one_line() {
        let json = as_json(&report(), 3, false);
        assert!(!json.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        assert_eq!(json["spans_per_second"], 2_000);
    }
}
