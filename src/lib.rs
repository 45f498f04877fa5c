//! tracelake: a SQL query engine for distributed traces, on Apache DataFusion.
//!
//! Spans come in as OTLP, Jaeger or Zipkin, lie as sorted Parquet files in an open Delta table,
//! and come out as SQL. [`Lake`] is the door for programs, `tracelake` the one for people.
//!
//! ```
//! # async fn run() -> tracelake::Result<()> {
//! use tracelake::{Config, IngestProgress, Lake, Source};
//!
//! let lake = Lake::create("memory:///", Config::default()).await?;
//! let request = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
//!     "traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","name":"GET /",
//!     "startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;
//! let source = Source::bytes("request.json", request);
//! let report = lake.ingest(vec![source], IngestProgress::shared()).await?;
//! assert_eq!(report.span_count, 1);
//!
//! let sql = "SELECT name FROM spans WHERE trace_id = '4BF92F3577B34DA6A3CE929D0E0E4736'";
//! let rows = lake.session().await?.query(sql, &[]).await?.collect().await?;
//! assert_eq!(rows[0].num_rows(), 1);
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
//!
//! # Rooms
//!
//! | room | purpose |
//! |---|---|
//! | [`error`], [`config`] | error kinds by what the caller does next; every option |
//! | [`span`] | the vocabulary: ids, kinds, attributes, how a span lies on disk and how SQL sees it |
//! | [`trace`] | what a trace means: tree, self time, critical path, edges, findings, drawing |
//! | [`workload`] | synthetic traces for the demo, for tests and for measuring |
//! | [`ingest`] | bytes in, one file a wire format |
//! | [`search`] | what a search for traces asks: conditions, their text, cursors |
//! | [`storage`] | files: log, layout, writer, trace-id filters, indexes, compaction, retention |
//! | [`table`] | the door to SQL: the `spans` table, pruning, stored columns as logical ones |
//! | [`exec`] | operators over whole traces, and the relations they answer |
//! | [`functions`] | what tracelake adds to SQL's functions |
//! | [`engine`] | the hub: opens a lake, takes spans in, builds the only session |
//! | [`server`] | wires in and out: OTLP and Zipkin; HTTP, PostgreSQL, Arrow Flight SQL |
//! | [`cli`] | the person: arguments, prompt, output |
//!
//! `span`, `trace`, `workload`, `ingest` and `search` are pure: they never do I/O and never await. Only
//! `storage` knows paths, and one file of it the table format. Only `engine::session` registers
//! anything with DataFusion. Who may import whom is checked by `tests/house.rs`.
//!
//! # A query, from text to rows
//!
//! 1. [`engine::Session`] parses the text and lets columns stand under their other names. It is
//!    the same for the prompt, for programs and for what a [`server::Server`] is asked over HTTP,
//!    PostgreSQL and Flight SQL.
//! 2. [`functions::AttributeSyntax`] gives `attributes['k']` its meaning; before types are
//!    coerced, [`table::IdLiterals`] checks ids and [`functions::AttributeComparison`] makes
//!    comparisons of attributes with numbers numeric.
//! 3. DataFusion optimizes and pushes filters to the scan of [`table::SpansTable`].
//! 4. The scan takes what filters say of trace ids and time and rules files out: by hour, by
//!    bucket of the trace id, by statistics, by the file's trace-id filter
//!    ([`storage::TraceFilters`]); of the files left, the page index of their ids says which
//!    rows can belong to the traces asked for, and their indexes ([`storage::Indexes`]) which
//!    can have the attributes, services and names asked for. Where [`table::NewestFirst`] saw
//!    that the newest spans are enough, hours are asked newest first until there are enough.
//!    The counts show in `EXPLAIN ANALYZE`.
//! 5. DataFusion's own Parquet scan reads what is left. For each file an adapter maps logical
//!    columns to stored ones and comparisons of ids and times to comparisons of bytes, so that
//!    page statistics skip within the file, and filters are evaluated while decoding.
//! 6. Relations over whole traces are [`exec::TraceExec`]s: they read ranges of traces from all
//!    files that may hold some, and make [`trace`]s of them. A trace asked for by its id
//!    ([`Lake::query_trace`], `trace('…')`) goes without a planner, through a cache.
//! 7. A search ([`search::TraceQuery`], [`Lake::search`], `search_traces(…)`) becomes such queries
//!    over growing stretches of time, the newest first, until enough traces are found.
//!
//! # A span, from bytes to file
//!
//! 1. [`ingest::decode`] recognizes compression and format and hands on one [`span::Span`] after
//!    another, and what it had to leave out.
//! 2. [`span::SpanBatchBuilder`] collects them as columns.
//! 3. [`storage::write_batch`] sorts a batch by hour, trace, start and id and writes a file an
//!    hour; on a local disk it is synced.
//! 4. [`storage::Log::commit`] makes all files of the batch visible at once, or none.
//! 5. Later, compaction merges an hour's files into one a bucket, drops exact re-deliveries, and
//!    writes into each file the index of its attributes, services and names that queries ask.
//!
//! A server collects what senders bring in an [`engine::CommitQueue`]: requests share a batch, and
//! each is answered once that is committed.
//!
//! # Invariants
//!
//! - Pruning, caches and compaction change no row of an answer, except that compaction drops
//!   exact duplicates.
//! - A batch is committed wholly or not at all; whatever is killed, the lake opens.
//! - No input makes the process panic: decoders reject, queries fail with an [`Error`].

pub mod error;
pub mod config;
pub mod span;
pub mod trace;
pub mod workload;
pub mod ingest;
pub mod search;
pub mod storage;
pub mod table;
pub mod exec;
pub mod functions;
pub mod engine;
pub mod server;
pub mod cli;

pub use config::Config;
pub use engine::{IngestProgress, IngestReport, Lake, QueryStream, Session, Source};
pub use error::{Error, ErrorKind, Result};
