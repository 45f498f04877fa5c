//! `tracelake compact`: fewer, sorted files with the same answers.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::args::CompactArgs;
use super::context::Context;
use super::exit::Exit;
use super::quantity::{bytes, count, counted, duration};
use super::run::{note, print};
use crate::Result;
use crate::engine::CompactionReport;

pub(crate) fn run(context: &Context, args: &CompactArgs) -> Result<Exit> {
    let lake = context.open_lake()?;
    let bar = Arc::new(ProgressBar::with_draw_target(
        Some(0),
        if context.terminal.stderr {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        },
    ));
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} {elapsed}") {
        bar.set_style(style);
    }
    let shown = Arc::clone(&bar);
    let compaction = lake.compact(Arc::new(move |step| {
        shown.set_length(step.total);
        shown.set_position(step.done);
        shown.set_message(step.hour);
    }));
    let result = context.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            result = compaction => Some(result),
        }
    });
    bar.finish_and_clear();
    let Some(result) = result else {
        note("interrupted; what was merged so far is kept, the next run goes on from there");
        return Ok(Exit::Interrupted);
    };
    let report = result?;
    print(&if args.json {
        as_json(&report)
    } else {
        as_text(&report)
    })?;
    Ok(Exit::Success)
}

fn as_text(report: &CompactionReport) -> String {
    if report.hour_count == 0 {
        return "nothing to compact".to_string();
    }
    let mut text = format!(
        "compacted {} of {} in {}: {} into {}, {} into {}",
        counted(report.span_count, "span"),
        counted(report.hour_count, "hour"),
        duration(report.elapsed),
        counted(report.files_before, "file"),
        count(report.files_after),
        bytes(report.bytes_before),
        bytes(report.bytes_after),
    );
    if report.duplicate_count > 0 {
        text.push_str(&format!(
            "; {} dropped",
            counted(report.duplicate_count, "exact duplicate")
        ));
    }
    text
}

fn as_json(report: &CompactionReport) -> String {
    json!({
        "hour_count": report.hour_count,
        "span_count": report.span_count,
        "duplicate_count": report.duplicate_count,
        "files_before": report.files_before,
        "files_after": report.files_after,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "elapsed_seconds": report.elapsed.as_secs_f64(),
    })
    .to_string()
}
