//! SQL in, rows out: runs every file of `tests/slt/`.
//!
//! Each file runs four times and must give the same rows each time: on files as ingested and on
//! compacted ones, with pruning and without. Its first line says which lake it wants:
//!
//! ```text
//! # lake: data       the inputs of data/, one commit a file
//! # lake: workload   3,000 synthetic spans of three hours, their traces spread over three commits
//! # lake: empty      no spans at all
//! ```
//!
//! Exact duplicates vanish at compaction, so these lakes hold none. What does depend on the run
//! stands behind `onlyif` or `skipif` with one of the labels `ingested`, `compacted`, `pruned`,
//! `unpruned`. Columns are `T`ext, `I`nteger, `R`eal, `B`oolean, `P`oint in time, `?` others.
//!
//! `cargo test --test slt -- ids` runs the files with `ids` in their path. With
//! `TRACELAKE_SLT_UPDATE=1` expected rows are replaced by those of the first run; read the diff.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use sqllogictest::{AsyncDB, ColumnType, DBOutput, Runner};
use tracelake::config::{QueryConfig, StorageConfig};
use tracelake::engine::{Session, Source, SourceKind};
use tracelake::span::SpanBatchBuilder;
use tracelake::workload::Workload;
use tracelake::{Config, Error, Lake, Result};

/// 2026-11-20 09:00 UTC.
const WORKLOAD_START: i64 = 1_795_165_200_000_000_000;

/// The inputs of the `data` lake; each is a commit of its own.
const DATA: [&str; 9] = [
    "otlp/collector.jsonl",
    "otlp/every-field.json",
    "otlp/liberal.json",
    "otlp/older-producers.jsonl",
    "otlp/shapes.jsonl",
    "jaeger/ui-export.json",
    "jaeger/short-ids.json",
    "zipkin/v2.json",
    "zipkin/v1.json",
];

/// A line with this is left out: it holds a span that was sent twice.
const DUPLICATES: &str = "sent twice";

fn main() -> ExitCode {
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    match runtime.block_on(run(&only)) {
        Ok((passed, failures)) => {
            for failure in &failures {
                eprintln!("FAILED {failure}\n");
            }
            println!("{passed} passed, {} failed", failures.len());
            if failures.is_empty() && passed > 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("cannot make the lakes: {error:#?}");
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

async fn run(only: &[String]) -> Result<(usize, Vec<String>)> {
    let mut files = Vec::new();
    slt_files(&manifest("tests/slt"), &mut files);
    files.retain(|file| {
        let path = file.to_string_lossy();
        only.is_empty() || only.iter().any(|word| path.contains(word.as_str()))
    });
    let mut by_lake: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        by_lake.entry(lake_of(&file)).or_default().push(file);
    }
    let mut passed = 0;
    let mut failures = Vec::new();
    for (name, files) in by_lake {
        let directory = tempfile::tempdir()?;
        let location = directory.path().to_string_lossy().into_owned();
        let lake = Lake::create(&location, config(true)).await?;
        fill(&lake, &name).await?;
        for level in ["ingested", "compacted"] {
            if level == "compacted" {
                lake.compact(Arc::new(|_| {})).await?;
            }
            for (pruning, label) in [(true, "pruned"), (false, "unpruned")] {
                let opened = Lake::open(&location, config(pruning)).await?;
                for file in &files {
                    let update = level == "ingested" && pruning;
                    match run_file(&opened, file, [level, label], update).await {
                        Ok(()) => passed += 1,
                        Err(failure) => failures.push(format!(
                            "{} ({level}, {label})\n{failure}",
                            file.strip_prefix(manifest("")).unwrap_or(file).display(),
                        )),
                    }
                }
            }
        }
    }
    Ok((passed, failures))
}

async fn run_file(
    lake: &Lake,
    file: &Path,
    labels: [&str; 2],
    update: bool,
) -> std::result::Result<(), String> {
    let mut runner = Runner::new(|| async {
        let session = lake.session().await?;
        Ok(Database { session })
    });
    for label in labels {
        runner.add_label(label);
    }
    runner.with_column_validator(sqllogictest::strict_column_validator);
    if update && std::env::var_os("TRACELAKE_SLT_UPDATE").is_some() {
        let updated = runner.update_test_file(
            file,
            " ",
            sqllogictest::default_validator,
            sqllogictest::default_normalizer,
            sqllogictest::strict_column_validator,
        );
        return updated.await.map_err(|error| error.to_string());
    }
    let outcome = runner.run_file_async(file).await;
    outcome.map_err(|error| error.display(false).to_string())
}

fn config(pruning: bool) -> Config {
    Config {
        query: QueryConfig {
            pruning,
            threads: Some(2),
            // Many ranges of traces, of a page or two each.
            trace_range_rows: 200,
            ..QueryConfig::default()
        },
        storage: StorageConfig {
            // These files are small, and attributes are to be columns all the same.
            attribute_min_rows: 2,
            ..StorageConfig::default()
        },
        ..Config::default()
    }
}

async fn fill(lake: &Lake, name: &str) -> Result<()> {
    match name {
        "data" => {
            for path in DATA {
                let text = fs::read_to_string(manifest("data").join(path))?;
                let mut kept = String::with_capacity(text.len());
                for line in text.lines().filter(|line| !line.contains(DUPLICATES)) {
                    kept.push_str(line);
                    kept.push('\n');
                }
                let source = Source {
                    name: path.to_string(),
                    kind: SourceKind::Bytes(Bytes::from(kept)),
                    format: None,
                };
                let report = lake.ingest(vec![source], Arc::default()).await?;
                assert_eq!(report.rejection_count, 0, "{path}: {:?}", report.rejections);
                assert_eq!(report.commit_count, 1, "{path}");
            }
        }
        "workload" => {
            for batch in workload() {
                lake.append(batch).await?;
            }
        }
        "empty" => {}
        other => panic!("the first line asks for `{other}`; there are data, workload and empty"),
    }
    Ok(())
}

/// Three batches that share every trace of some size, without exact duplicates.
fn workload() -> Vec<arrow::array::RecordBatch> {
    let mut workload = Workload::new(7, 3_000, WORKLOAD_START, Duration::from_secs(3 * 3600));
    let origins = workload.origins().to_vec();
    let mut builders = [(); 3].map(|()| SpanBatchBuilder::new());
    let mut seen = HashSet::new();
    let mut count = 0;
    while let Some(spans) = workload.next_trace() {
        for (origin, span) in spans {
            let key = (
                span.trace_id,
                span.span_id,
                span.kind as i8,
                span.start_time_unix_nano,
                span.duration_nano,
                span.name.clone(),
            );
            if seen.insert(key) {
                builders[count % 3].push(&origins[origin], &span);
                count += 1;
            }
        }
    }
    builders
        .into_iter()
        .map(|mut builder| builder.finish())
        .collect()
}

/// A session as the runner wants it.
struct Database {
    session: Session,
}

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = Error;
    type ColumnType = Column;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Column>> {
        let stream = self.session.query(sql, &[]).await?;
        let schema = stream.schema();
        let fields = schema.fields().iter();
        let types: Vec<Column> = fields.map(|field| Column::of(field.data_type())).collect();
        let mut rows = Vec::new();
        for batch in stream.collect().await? {
            for row in 0..batch.num_rows() {
                let columns = batch.columns().iter();
                rows.push(columns.map(|column| cell(column, row)).collect());
            }
        }
        Ok(if types.is_empty() {
            DBOutput::StatementComplete(rows.len() as u64)
        } else {
            DBOutput::Rows { types, rows }
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "tracelake"
    }
}

/// A value on one line: no quotes, nothing invisible.
fn cell(column: &dyn Array, row: usize) -> String {
    let options = FormatOptions::new().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column, &options).expect("every type has a text");
    let text = formatter.value(row).to_string();
    if text.is_empty() {
        return "(empty)".to_string();
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// The types of columns that files declare.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Text,
    Integer,
    Real,
    Boolean,
    Time,
    Other,
}

impl Column {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            data_type if data_type.is_integer() => Self::Integer,
            data_type if data_type.is_floating() => Self::Real,
            DataType::Decimal128(_, _) => Self::Real,
            DataType::Boolean => Self::Boolean,
            DataType::Timestamp(_, _) | DataType::Date32 => Self::Time,
            _ => Self::Other,
        }
    }
}

impl ColumnType for Column {
    fn from_char(value: char) -> Option<Self> {
        Some(match value {
            'T' => Self::Text,
            'I' => Self::Integer,
            'R' => Self::Real,
            'B' => Self::Boolean,
            'P' => Self::Time,
            '?' => Self::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Text => 'T',
            Self::Integer => 'I',
            Self::Real => 'R',
            Self::Boolean => 'B',
            Self::Time => 'P',
            Self::Other => '?',
        }
    }
}

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn slt_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("tests/slt can be read");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("tests/slt can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            slt_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
}

fn lake_of(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("tests/slt can be read");
    let first = text.lines().next().unwrap_or_default();
    let Some(name) = first.strip_prefix("# lake: ") else {
        panic!("{}: the first line must be `# lake: …`", file.display());
    };
    name.trim().to_string()
}
