//! `tracelake generate`: synthetic traces, into a lake or an OTLP file.
//!
//! What the traces are like is the workload room's matter; this file only carries them.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::GenerateArgs;
use super::context::Context;
use super::exit::Exit;
use super::output::Destination;
use super::quantity::{bytes, count, counted, duration, per_second, ratio};
use super::run::{note, print};
use crate::engine::Lake;
use crate::ingest::{encode_otlp_json, encode_otlp_proto};
use crate::span::{Resource, Scope, Span, SpanBatchBuilder};
use crate::workload::Workload;
use crate::{Error, Result};

const HOUR: Duration = Duration::from_secs(3600);

/// Spans of one OTLP export, which a collector's batch processor would call a large one.
const EXPORT_SPANS: usize = 8192;

pub(crate) fn run(context: &Context, args: &GenerateArgs) -> Result<Exit> {
    let length = HOUR * args.hours;
    let start = args.start.unwrap_or_else(|| hours_until_now(args.hours));
    let workload = Workload::new(args.seed, args.spans, unix_nano(start)?, length);
    let bar = progress_bar(context, args.spans);
    let begin = Instant::now();
    let written = match &args.otlp {
        Some(path) => write_otlp(workload, path, &bar)?,
        None => {
            let lake = context.create(&context.lake_url, context.config.clone())?;
            let fill = fill(&lake, workload, context.config.ingest.batch_spans, &bar);
            context.block_on(fill)?
        }
    };
    bar.finish_and_clear();
    let elapsed = begin.elapsed();
    let to = match &args.otlp {
        Some(path) => path.display().to_string(),
        None => context.lake_url.clone(),
    };
    print(&format!(
        "generated {} to {to} in {} ({} spans/s): {} ({:.1} bytes a span)",
        counted(written.span_count, "span"),
        duration(elapsed),
        count(per_second(written.span_count, elapsed)),
        bytes(written.byte_count),
        ratio(written.byte_count, written.span_count),
    ))?;
    if written.interrupted {
        note("interrupted; what was committed until then is kept");
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Success)
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) span_count: u64,
    pub(crate) byte_count: u64,
    pub(crate) interrupted: bool,
}

/// Commits a workload to a lake, a batch at a time.
pub(crate) async fn fill(
    lake: &Lake,
    mut workload: Workload,
    batch_spans: usize,
    bar: &ProgressBar,
) -> Result<Written> {
    let mut interrupt = Box::pin(tokio::signal::ctrl_c());
    let mut written = Written::default();
    while let Some(batch) = next_batch(&mut workload, batch_spans) {
        let span_count = batch.num_rows() as u64;
        let outcome = tokio::select! {
            biased;
            _ = &mut interrupt => {
                written.interrupted = true;
                return Ok(written);
            }
            outcome = lake.append(batch) => outcome?,
        };
        written.span_count += span_count;
        written.byte_count += outcome.byte_count;
        bar.inc(span_count);
    }
    Ok(written)
}

/// The next whole traces, at least `batch_spans` spans of them unless the workload ends.
fn next_batch(workload: &mut Workload, batch_spans: usize) -> Option<RecordBatch> {
    let mut builder = SpanBatchBuilder::new();
    while builder.len() < batch_spans {
        let Some(spans) = workload.next_trace() else {
            break;
        };
        for (origin, span) in &spans {
            builder.push(&workload.origins()[*origin], span);
        }
    }
    (!builder.is_empty()).then(|| builder.finish())
}

/// Writes a workload as OTLP requests, a resource each, in the order of their arrival.
fn write_otlp(mut workload: Workload, path: &Path, bar: &ProgressBar) -> Result<Written> {
    let encoding = Encoding::of_path(path)?;
    let parts: Vec<(Resource, Scope)> = workload.origin_parts().to_vec();
    let mut out = Destination::file(path)?;
    let mut written = Written::default();
    let mut ended = false;
    while !ended {
        let mut by_origin: Vec<Vec<Span>> = vec![Vec::new(); parts.len()];
        let mut span_count = 0;
        while span_count < EXPORT_SPANS {
            let Some(spans) = workload.next_trace() else {
                ended = true;
                break;
            };
            span_count += spans.len();
            for (origin, span) in spans {
                by_origin[origin].push(span);
            }
        }
        let mut groups = parts.iter().zip(by_origin).peekable();
        while let Some(((resource, scope), spans)) = groups.next() {
            let mut scopes = vec![(scope.clone(), spans)];
            while let Some(((_, scope), spans)) = groups.next_if(|((next, _), _)| next == resource)
            {
                scopes.push((scope.clone(), spans));
            }
            scopes.retain(|(_, spans)| !spans.is_empty());
            if !scopes.is_empty() {
                written.byte_count += encoding.write(resource, &scopes, &mut out)?;
            }
        }
        written.span_count += span_count as u64;
        bar.inc(span_count as u64);
    }
    out.commit()?;
    Ok(written)
}

/// How OTLP lies in a file, as the Collector's file exporter writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// A request a line.
    JsonLines,
    /// Each request after its length, four bytes with the highest first.
    Protobuf,
}

impl Encoding {
    fn of_path(path: &Path) -> Result<Self> {
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("json" | "jsonl" | "ndjson") => Ok(Self::JsonLines),
            Some("pb" | "proto" | "bin") => Ok(Self::Protobuf),
            _ => Err(Error::invalid_input(format!(
                "`{}` tells no encoding; end it in .jsonl or .pb",
                path.display()
            ))),
        }
    }

    /// Writes one request, and returns its bytes.
    fn write(
        self,
        resource: &Resource,
        scopes: &[(Scope, Vec<Span>)],
        out: &mut impl Write,
    ) -> Result<u64> {
        let bytes = match self {
            Self::JsonLines => {
                let mut text = String::new();
                encode_otlp_json(resource, scopes, &mut text);
                text.push('\n');
                text.into_bytes()
            }
            Self::Protobuf => {
                let mut message = Vec::new();
                encode_otlp_proto(resource, scopes, &mut message);
                let length = u32::try_from(message.len())
                    .map_err(|_| Error::internal("an OTLP request is longer than 4 GiB"))?;
                let mut bytes = length.to_be_bytes().to_vec();
                bytes.append(&mut message);
                bytes
            }
        };
        out.write_all(&bytes)?;
        Ok(bytes.len() as u64)
    }
}

/// The start of as many whole hours as end with the running one.
pub(crate) fn hours_until_now(hours: u32) -> SystemTime {
    let now = SystemTime::now();
    let since_epoch = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let into_hour = Duration::from_secs(since_epoch.as_secs() % HOUR.as_secs());
    now.checked_sub(into_hour + HOUR * hours).unwrap_or(now)
}

/// Nanoseconds since the epoch.
pub(crate) fn unix_nano(time: SystemTime) -> Result<i64> {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .ok_or_else(|| Error::invalid_input("the start must lie between 1970 and 2262"))
}

/// A bar over the spans made, for a terminal.
pub(crate) fn progress_bar(context: &Context, span_count: u64) -> ProgressBar {
    let target = if context.terminal.stderr {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(span_count), target);
    let template = "{bar:24} {human_pos}/{human_len} spans  {elapsed}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_otlp_file_tells_its_encoding_by_its_name() {
        for (name, encoding) in [
            ("a.jsonl", Some(Encoding::JsonLines)),
            ("a.pb", Some(Encoding::Protobuf)),
            ("a.csv", None),
            ("a", None),
        ] {
            assert_eq!(Encoding::of_path(Path::new(name)).ok(), encoding, "{name}");
        }
    }

    #[test]
    fn batches_hold_every_span_once() {
        let mut workload = Workload::new(1, 500, 1_763_683_200_000_000_000, HOUR);
        let mut rows = Vec::new();
        while let Some(batch) = next_batch(&mut workload, 100) {
            rows.push(batch.num_rows());
        }
        assert_eq!(rows.iter().sum::<usize>(), 500);
        assert!(rows.len() > 1);
    }

    #[test]
    fn the_hours_before_now_begin_at_a_whole_hour() {
        let start = unix_nano(hours_until_now(3)).expect("now is after 1970");
        assert!(start / 1_000_000_000 % 3600 == 0);
    }
}
