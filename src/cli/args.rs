//! The options of every command, and their help.
//!
//! Read [`Args`]: `--help` and the README's reference are made of the comments here. What a
//! command does with its options is in the file of its name.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use super::exit::EXIT_CODES;
use super::output::OutputFormat;
use super::parameter::{self, Parameter};
use super::quantity::{parse_bytes, parse_duration, parse_time};
use crate::Config;
use crate::ingest::Format;
use crate::span::TraceId;

const EXAMPLES: &str = "\
Examples:
  tracelake demo
  tracelake ingest traces/*.jsonl.gz
  tracelake query -c \"SELECT service_name, count(*) FROM spans GROUP BY 1\"
  tracelake sql";

/// A SQL query engine for distributed traces.
///
/// Spans go in as OTLP, Jaeger or Zipkin files, lie as Parquet in an open table (a lake), and are
/// queried with SQL.
#[derive(Debug, Parser)]
#[command(name = "tracelake", version, styles = styles(), after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), subcommand_required = true,
    arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalArgs {
    /// The lake: a directory or an URL
    ///
    /// A directory, or an URL of scheme file, memory, s3, gs or az. Credentials of an object
    /// store come from the environment, under the names its own tools use.
    #[arg(
        long,
        global = true,
        env = "TRACELAKE_LAKE",
        value_name = "URL",
        default_value = "./lake"
    )]
    pub(crate) lake: String,

    /// Memory that running queries may use together, such as 512MiB or 4GiB
    ///
    /// What exceeds it is written to the spill directory where that is possible; otherwise the
    /// query fails and says so.
    #[arg(long, global = true, env = "TRACELAKE_MEMORY_LIMIT", value_name = "SIZE",
        value_parser = parse_bytes, default_value = "4GiB")]
    pub(crate) memory_limit: usize,

    /// Where queries put what exceeds the memory limit [default: the system's temporary directory]
    #[arg(long, global = true, env = "TRACELAKE_SPILL_DIR", value_name = "DIR")]
    pub(crate) spill_dir: Option<PathBuf>,

    /// Threads to work with [default: one for each core]
    #[arg(long, global = true, env = "TRACELAKE_THREADS", value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// How far beyond the time asked for relations over whole traces read, such as 1h or 10m
    ///
    /// A trace that begins or ends outside the time a query asks for comes out whole if it does so
    /// by at most this much.
    #[arg(long, global = true, env = "TRACELAKE_TRACE_MARGIN", value_name = "DURATION",
        value_parser = parse_duration, default_value = "1h")]
    pub(crate) trace_margin: Duration,

    /// Spans of whole traces that are worked through at a time [default: 2097152; for serve 524288]
    ///
    /// Fewer take less memory and more reads; a trace with more is worked through by itself. Never
    /// more than one for each 512 bytes of the memory limit.
    #[arg(long, global = true, env = "TRACELAKE_TRACE_RANGE_ROWS", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) trace_range_rows: Option<u32>,

    /// What to log to standard error: off, error, warn, info, debug, trace [default: warn; for
    /// serve warn,tracelake=info]
    ///
    /// Also takes directives for single modules, such as warn,tracelake=debug.
    #[arg(long, global = true, env = "TRACELAKE_LOG", value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

impl GlobalArgs {
    /// The configuration these options make.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.query.memory_limit_bytes = self.memory_limit;
        config.query.spill_directory = self.spill_dir.clone();
        config.query.threads = self.threads.map(usize::from);
        config.query.trace_margin = self.trace_margin;
        if let Some(rows) = self.trace_range_rows {
            config.query.trace_range_rows = rows as usize;
        }
        config
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Ingest(IngestArgs),
    Query(QueryArgs),
    Sql(SqlArgs),
    Trace(TraceArgs),
    Explain(ExplainArgs),
    Info(InfoArgs),
    Compact(CompactArgs),
    Expire(ExpireArgs),
    Vacuum(VacuumArgs),
    Serve(ServeArgs),
    Load(LoadArgs),
    Bench(BenchArgs),
    Generate(GenerateArgs),
}

/// Show what tracelake does, on a lake made for the occasion
///
/// Makes a small lake of synthetic traces in a temporary directory, shows some telling queries
/// with their results, draws one trace, then opens the prompt if a terminal is there.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Spans to make
    #[arg(long, value_name = "N", default_value_t = 50_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) spans: u64,

    /// What the synthetic traces are drawn from: the same seed makes the same traces
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub(crate) seed: u64,

    /// Make the lake here and keep it
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Take trace files into the lake, which is made if it does not exist
///
/// Reads OTLP JSON and protobuf (also as the Collector's file exporter writes them), Jaeger JSON
/// and Zipkin JSON, plain or compressed with gzip or zstd, of any size. What cannot be read is
/// skipped and reported; everything else is committed. Ctrl-C stops after what was committed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tracelake ingest traces.jsonl
  tracelake ingest 'dumps/**/*.json.gz' --format jaeger
  zstdcat export.pb.zst | tracelake ingest -")]
pub(crate) struct IngestArgs {
    /// Files, directories (with all below them), glob patterns, or - for standard input
    #[arg(required = true, value_name = "FILES")]
    pub(crate) files: Vec<String>,

    /// The format of every input: otlp-json, otlp-proto, jaeger or zipkin [default: recognized
    /// from the content]
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    pub(crate) format: Option<Format>,

    /// Stop at the first thing that cannot be read, and commit nothing
    #[arg(long)]
    pub(crate) strict: bool,

    /// Spans to commit together at the most
    #[arg(long, value_name = "N", default_value_t = 262_144,
        value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    pub(crate) batch_spans: u64,

    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Answer SQL
///
/// Runs every statement in order and stops at the first that fails. Without -c, -f or -, reads
/// standard input if that is not a terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tracelake query -c 'SELECT count(*) FROM spans'
  tracelake query -f slowest.sql --param service=checkout --output csv
  tracelake query -c 'SELECT * FROM spans' --output-file spans.parquet

Placeholders:
  $name in SQL stands for the value of --param name=value. Digits are an integer, digits with a
  point a decimal number, true and false a boolean, everything else text. A type can be given:
  --param id:text=42. Types: text, int, float, bool, timestamp, null.")]
pub(crate) struct QueryArgs {
    /// A statement, or several separated by semicolons; can be given more than once
    #[arg(short, long = "command", value_name = "SQL")]
    pub(crate) command: Vec<String>,

    /// A file of statements, after those of -c; can be given more than once
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,

    /// - reads statements from standard input, after all others
    #[arg(value_name = "-", value_parser = parse_dash)]
    pub(crate) stdin: Option<Dash>,

    /// How to write results [default: as the output file's name says, else table]
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub(crate) output: Option<OutputFormat>,

    /// Write results to a file, which appears when all statements succeeded
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,

    /// A value for the placeholder $name
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parameter::parse)]
    pub(crate) param: Vec<Parameter>,

    /// Rows of a table shown at the most; 0 shows all. Other formats always have all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_rows: usize,

    /// Print how long each statement took to standard error
    #[arg(long)]
    pub(crate) timing: bool,
}

/// `-` where standard input is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dash;

fn parse_dash(text: &str) -> Result<Dash, String> {
    if text == "-" {
        Ok(Dash)
    } else {
        Err("only `-` can stand here; give SQL with -c, a file with -f".to_string())
    }
}

/// Open the prompt
///
/// Statements may take several lines and end with a semicolon; \? lists the prompt's own
/// commands. Ctrl-C cancels a running statement, Ctrl-D leaves. When standard input is not a
/// terminal, its lines are run as if typed, and the exit code tells whether one failed.
#[derive(Debug, clap::Args)]
pub(crate) struct SqlArgs {
    /// A statement or prompt command to run first, such as '\timing'; can be given more than once
    #[arg(short, long = "command", value_name = "SQL")]
    pub(crate) command: Vec<String>,

    /// Rows shown at the most; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_rows: usize,
}

/// Draw one trace, or write its spans
///
/// Draws the tree of the trace with its waterfall. Marks before a name: ✗ an error, ? a parent
/// that is not in the trace, ↺ a broken cycle, • on the critical path. With --output its spans are
/// written in tree order instead, as `SELECT * FROM trace('ID')` gives them.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// The trace's id: 32 hex digits, or 16
    #[arg(value_name = "ID", value_parser = parse_trace_id)]
    pub(crate) id: TraceId,

    /// Write the spans in this format instead of drawing them
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub(crate) output: Option<OutputFormat>,

    /// Spans shown at the most; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) max_spans: usize,

    /// Correct the clocks of hosts that differ by at most so much, such as 500ms or 2s
    ///
    /// Spans that do not fit into their parents are moved in time, by the rules of Jaeger's
    /// adjuster. Times are shown as they were sent where this is not said.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) max_clock_skew: Option<Duration>,

    /// Draw with ASCII characters only
    #[arg(long)]
    pub(crate) ascii: bool,
}

/// Show how a query is answered and what it need not read
///
/// Runs the query and prints its plan: the files considered, what time, bucket, statistics and
/// trace-id filters removed each, and the bytes read.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// One SELECT statement, or - for standard input
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
}

/// Describe the lake: files, spans, traces, time range, bytes
#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// Also show the bytes each column takes
    #[arg(long)]
    pub(crate) columns: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Merge files as ingested into fewer, sorted ones
///
/// Answers stay the same. Safe beside readers and writers; a run that was stopped goes on with
/// the next one.
#[derive(Debug, clap::Args)]
pub(crate) struct CompactArgs {
    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take whole hours out of the lake that are older than a duration
///
/// Their files stay on disk, for readers of older versions, until vacuum deletes them.
#[derive(Debug, clap::Args)]
pub(crate) struct ExpireArgs {
    /// The least age of what goes, such as 30d or 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) older_than: Duration,

    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Delete files that no longer belong to the lake
///
/// These are files that compact and expire replaced or took out, and those of writers that were
/// stopped before they committed.
#[derive(Debug, clap::Args)]
pub(crate) struct VacuumArgs {
    /// Keep what became useless in this last time: a running query may still read it
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "7d")]
    pub(crate) older_than: Duration,

    /// List what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take spans from senders and answer queries, until told to end
///
/// Listens for OTLP (gRPC at 4317, HTTP at 4318, where Zipkin spans are taken too) and for queries
/// over HTTP at 4320. The lake is made if it does not exist. Spans are acknowledged when they are
/// committed. SIGTERM or Ctrl-C ends it in good order.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tracelake serve
  tracelake serve --config tracelake.toml --check
  tracelake serve --set otlp.grpc=0.0.0.0:4317 --set auth.allow_anonymous=true

Every key of the file can also be given as a variable: TRACELAKE_HTTP__LISTEN is http.listen.
Flags go over variables, variables over the file.")]
pub(crate) struct ServeArgs {
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE", env = "TRACELAKE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// A key of the configuration and its value; can be given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,

    /// Only say whether the configuration can be used
    #[arg(long)]
    pub(crate) check: bool,
}

/// Send synthetic traces over OTLP/gRPC as fast as they are acknowledged, and measure that
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct LoadArgs {
    /// Where the server listens for OTLP over gRPC
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4317")]
    pub(crate) to: String,

    /// Connections
    #[arg(long, value_name = "N", default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,

    /// Requests of a connection that wait for their acknowledgement at once
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) in_flight: u16,

    /// Spans of a request
    #[arg(long, value_name = "N", default_value_t = 512,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch_spans: u32,

    /// How long to send
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) duration: Duration,
}

/// Measure how fast the Rust API answers over the lake
///
/// Prints one JSON object: milliseconds of looking up traces one by one, uncached and cached, of
/// all together, and of a search.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct BenchArgs {
    /// Traces looked up
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) ids: u32,

    /// Times that everything is done
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeat: u16,

    /// The service whose traces are searched for [default: the one with most spans]
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,

    /// What attributes they must have, as search_traces takes it
    #[arg(long, value_name = "CONDITION")]
    pub(crate) attributes: Option<String>,
}

/// Make synthetic traces, in the lake or as an OTLP file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tracelake generate --spans 1000000 --seed 7
  tracelake generate --spans 100000 --seed 7 --otlp traces.pb")]
pub(crate) struct GenerateArgs {
    /// Spans to make
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) spans: u64,

    /// What the traces are drawn from: the same seed makes the same traces
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub(crate) seed: u64,

    /// Hours the traces are spread over
    #[arg(long, value_name = "H", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=87_600))]
    pub(crate) hours: u32,

    /// When the first hour begins, such as 2026-11-22T00:00:00Z [default: the last hour is the one
    /// before now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) start: Option<SystemTime>,

    /// Write an OTLP file instead: .jsonl for JSON lines, .pb for protobuf with lengths
    #[arg(long, value_name = "FILE")]
    pub(crate) otlp: Option<PathBuf>,
}

fn parse_trace_id(text: &str) -> Result<TraceId, String> {
    TraceId::parse(text).map_err(|error| error.message().to_string())
}

fn parse_format(text: &str) -> Result<Format, String> {
    text.parse().map_err(|_| {
        let names: Vec<String> = Format::ALL.iter().map(ToString::to_string).collect();
        format!("use one of {}", names.join(", "))
    })
}

fn styles() -> Styles {
    Styles::styled()
        .header(AnsiColor::Yellow.on_default().bold())
        .usage(AnsiColor::Yellow.on_default().bold())
        .literal(AnsiColor::Green.on_default())
        .placeholder(AnsiColor::Cyan.on_default())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once(&"tracelake").chain(line))
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for line in [
            [
                "--lake",
                "s3://b/l",
                "--threads",
                "3",
                "--memory-limit",
                "1GiB",
                "info",
            ],
            [
                "info",
                "--lake",
                "s3://b/l",
                "--threads",
                "3",
                "--memory-limit",
                "1GiB",
            ],
        ] {
            let args = parsed(&line).expect("the line is well formed");
            assert_eq!(args.global.lake, "s3://b/l");
            let config = args.global.config();
            assert_eq!(config.query.threads, Some(3));
            assert_eq!(config.query.memory_limit_bytes, 1 << 30);
        }
    }

    #[test]
    fn every_format_can_be_named() {
        for format in Format::ALL {
            let args = parsed(&["ingest", "x", "--format", &format.to_string()]);
            match args.expect("the format has this name").command {
                Command::Ingest(ingest) => assert_eq!(ingest.format, Some(format)),
                other => panic!("parsed as {other:?}"),
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            &[][..],
            &["ingest"],
            &["ingest", "x", "--format", "xml"],
            &["query", "SELECT 1"],
            &["query", "-c", "SELECT 1", "--param", "nothing"],
            &["query", "--output", "xml"],
            &["trace"],
            &["trace", "xyz"],
            &["expire"],
            &["expire", "--older-than", "soon"],
            &["info", "--memory-limit", "much"],
            &["info", "--threads", "0"],
            &["generate", "--spans", "0"],
            &["nonsense"],
        ] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_query_takes_several_commands_files_and_parameters() {
        let args = parsed(&[
            "query", "-c", "a", "-c", "b", "-f", "c.sql", "-", "-p", "x=1", "--param", "y=z",
        ])
        .expect("the line is well formed");
        match args.command {
            Command::Query(query) => {
                assert_eq!(query.command, ["a", "b"]);
                assert_eq!(query.file, [PathBuf::from("c.sql")]);
                assert!(query.stdin.is_some());
                assert_eq!(query.param.len(), 2);
            }
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn every_option_has_a_help_text() {
        for command in Args::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}
