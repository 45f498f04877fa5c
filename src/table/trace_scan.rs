//! Reads whole traces: the spans of a range of trace ids out of all files that may hold some.
//!
//! Read [`TraceScan`]. It plans like [`SpansTable`]'s own scan, but hands out each file's rows by
//! themselves and in the file's order, so that stored offsets between rows hold. Every file is read
//! once for each range of traces, so what there is to know of it is found out but once: a scan of
//! DataFusion opens a file anew each time. What the rows of a trace mean is not known here.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use futures::{Stream, StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::OnceCell;

use super::SpansTable;
use super::file_columns::{
    FileColumns, FileSchema, SpanColumns, StoredColumns, span_column_schema,
};
use super::footers::{FOOTER_READS, footer, while_reading};
use super::index_predicate::IndexPredicate;
use super::passing_rows::PassingRows;
use super::predicate::SpanPredicate;
use super::pruning::PlannedFile;
use super::trace_ranges::{TracePages, TraceRange, trace_ranges};
use crate::span::{TraceId, stored_name};
use crate::storage::{FileReader, Indexes, LakeFile, Store};

/// Bytes of the projected columns of a range, decoded, as far as footers tell.
const MOST_RANGE_BYTES: u64 = 128 << 20;

/// Rows of a range at least where columns are wide, so that pages are not read again and again.
const LEAST_RANGE_ROWS: u64 = 16 << 10;

/// How a relation over traces reads.
#[derive(Debug, Clone, Copy)]
pub struct TraceScope {
    /// By how much more is read than is asked for, before and after, so that traces that begin
    /// or end outside are whole.
    pub margin: Duration,
    /// Rows of a range of traces at the most.
    pub range_rows: usize,
}

/// The spans of a lake, trace by trace.
#[derive(Debug)]
pub struct TraceScan {
    store: Store,
    files: Vec<TraceFile>,
    ranges: Vec<TraceRange>,
    trace_ids: Option<Arc<[TraceId]>>,
    start_nanos: (i64, i64),
    is_within_time: bool,
    pruning: bool,
    index: Option<SpanIndex>,
    metrics: ExecutionPlanMetricsSet,
    bytes_scanned: Count,
}

/// What indexes are asked for: rows that pass filters.
#[derive(Debug)]
struct SpanIndex {
    predicate: IndexPredicate,
    indexes: Arc<Indexes>,
}

/// A file and where in it which traces lie.
#[derive(Debug)]
struct TraceFile {
    metadata: Arc<ParquetMetaData>,
    pages: TracePages,
    /// Whether a span of it can start in the time asked for.
    is_asked_for: bool,
    lake_file: Arc<LakeFile>,
    passing: OnceCell<Option<PassingRows>>,
}

impl SpansTable {
    /// Plans reading the traces that filters on `trace_id` and `start_time` leave, whole as far
    /// as `scope` goes, with the columns at these indices of [`span_column_schema`]. Of those, only
    /// such matter as have a span that passes `span_filters`.
    pub async fn scan_traces(
        &self,
        state: &dyn Session,
        columns: &[usize],
        filters: &[Expr],
        span_filters: &[Expr],
        scope: TraceScope,
    ) -> Result<TraceScan> {
        let predicate = SpanPredicate::extract(filters);
        let start_nanos = (predicate.min_start_nano, predicate.max_start_nano);
        let never = predicate.is_never();
        let trace_ids = predicate.trace_ids.clone();
        let mut wider = predicate;
        if !never {
            let margin = i64::try_from(scope.margin.as_nanos()).unwrap_or(i64::MAX);
            wider.min_start_nano = wider.min_start_nano.saturating_sub(margin);
            wider.max_start_nano = wider.max_start_nano.saturating_add(margin);
        }
        let mut plan = self.plan_files(&wider).await?;
        if never {
            plan.files.clear();
        }
        // Of copies in several files the one that came first is kept.
        plan.files.sort_by(|a, b| {
            let key = |planned: &PlannedFile| planned.file.min_ingested_micros;
            (key(a), &a.file.path).cmp(&(key(b), &b.file.path))
        });
        let is_within_time = plan.files.iter().all(|planned| {
            start_nanos.0 <= planned.file.min_start_nano
                && planned.file.max_start_nano <= start_nanos.1
        });
        let metrics = ExecutionPlanMetricsSet::new();
        plan.report.record(&metrics);
        let files = self.trace_files(state, &plan.files, start_nanos).await?;
        let ids: Option<Arc<[TraceId]>> = trace_ids.map(|ids| ids.into_iter().collect());
        let weights = files
            .iter()
            .flat_map(|file| file.pages.weights(ids.as_deref()));
        let most = MOST_RANGE_BYTES / row_bytes(&files, columns).max(1);
        let most = most
            .max(LEAST_RANGE_ROWS)
            .min(scope.range_rows.max(1) as u64);
        let ranges = trace_ranges(weights.collect(), most, state.config().target_partitions());
        Ok(TraceScan {
            store: self.log.store().clone(),
            ranges,
            files,
            trace_ids: ids,
            start_nanos,
            is_within_time,
            pruning: self.pruning,
            index: self.span_index(span_filters),
            bytes_scanned: MetricBuilder::new(&metrics).global_counter("bytes_scanned"),
            metrics,
        })
    }

    fn span_index(&self, span_filters: &[Expr]) -> Option<SpanIndex> {
        let indexes = self.indexes().filter(|_| self.pruning)?;
        let predicate = IndexPredicate::extract(span_filters);
        predicate.is_useful().then(|| SpanIndex {
            predicate,
            indexes: Arc::clone(indexes),
        })
    }

    async fn trace_files(
        &self,
        state: &dyn Session,
        files: &[PlannedFile],
        start_nanos: (i64, i64),
    ) -> Result<Vec<TraceFile>> {
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let store = self.log.store();
        futures::stream::iter(files.to_vec())
            .map(|planned| {
                let cache = Arc::clone(&cache);
                async move {
                    let metadata = footer(store, &planned.file, &cache).await?;
                    let pages = TracePages::of(&metadata);
                    Ok(TraceFile {
                        metadata,
                        pages,
                        is_asked_for: planned.file.max_start_nano >= start_nanos.0
                            && planned.file.min_start_nano <= start_nanos.1,
                        lake_file: Arc::clone(&planned.file),
                        passing: OnceCell::new(),
                    })
                }
            })
            .buffered(FOOTER_READS)
            .try_collect()
            .await
    }
}

/// About how many bytes a row has in memory, by what footers say of the columns.
fn row_bytes(files: &[TraceFile], columns: &[usize]) -> u64 {
    let schema = span_column_schema();
    let wanted = |path: &str| {
        let name = path.split('.').next().unwrap_or_default();
        columns.iter().any(|index| {
            let field = schema.fields().get(*index);
            field.is_some_and(|f| *f.name() == name || *f.name() == stored_name(name))
        })
    };
    let (mut bytes, mut rows) = (0u64, 0u64);
    for file in files {
        for group in file.metadata.row_groups() {
            rows += u64::try_from(group.num_rows()).unwrap_or(0);
            for leaf in group.columns() {
                if wanted(&leaf.column_path().string()) {
                    bytes += u64::try_from(leaf.uncompressed_size()).unwrap_or(0);
                }
            }
        }
    }
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(16) as u64;
    let fixed = columns
        .iter()
        .filter_map(|index| schema.fields().get(*index));
    let fixed: u64 = fixed.map(|field| width(field.data_type())).sum();
    fixed + bytes / rows.max(1)
}

impl TraceScan {
    /// The ranges into which the traces are cut; no trace lies in two.
    pub fn ranges(&self) -> &[TraceRange] {
        &self.ranges
    }

    /// How many files there are to read from.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// The ids asked for, in order; `None` where all are.
    pub fn trace_ids(&self) -> Option<&[TraceId]> {
        self.trace_ids.as_deref()
    }

    /// The least and the greatest start time asked for, which are not those of what is read.
    pub fn start_nanos(&self) -> (i64, i64) {
        self.start_nanos
    }

    /// Whether no span is read that starts outside the time asked for.
    pub fn is_within_time(&self) -> bool {
        self.is_within_time
    }

    /// Whether a span of a file can start in the time asked for. If not, it is read for the sake
    /// of traces that have spans in another file.
    pub fn is_asked_for(&self, file: usize) -> bool {
        self.files.get(file).is_some_and(|file| file.is_asked_for)
    }

    /// Whether so much of what would be read lies outside the time asked for that it pays to
    /// find out first which traces it is needed for.
    pub fn is_mostly_margin(&self) -> bool {
        let rows = |is_asked_for: bool| -> i64 {
            let files = self.files.iter();
            let files = files.filter(|file| file.is_asked_for == is_asked_for);
            files
                .map(|file| file.metadata.file_metadata().num_rows())
                .sum()
        };
        2 * rows(false) > rows(true)
    }

    /// What reading has counted so far, and what planning ruled out.
    pub fn metrics(&self) -> MetricsSet {
        self.metrics.clone_inner()
    }

    /// The rows of a file, in stretches, that can hold traces of a range.
    pub fn rows(&self, file: usize, range: &TraceRange) -> Vec<Range<u64>> {
        let Some(file) = self.files.get(file) else {
            return Vec::new();
        };
        if self.pruning {
            file.pages.rows(range, self.trace_ids())
        } else {
            let rows = file.metadata.file_metadata().num_rows();
            std::iter::once(0..u64::try_from(rows).unwrap_or(0)).collect()
        }
    }

    /// Whether indexes are asked which spans pass the filters on spans.
    pub fn has_index(&self) -> bool {
        self.index.is_some()
    }

    /// Whether one of a run of rows of a file passes the filters on spans, asked run by run;
    /// `None` where indexes cannot tell.
    pub async fn passing(&self, file: usize) -> Result<Option<impl Fn(&Range<u64>) -> bool + '_>> {
        let (Some(index), Some(file)) = (&self.index, self.files.get(file)) else {
            return Ok(None);
        };
        let passing = file.passing.get_or_try_init(|| async {
            let file = index.indexes.of_file(&self.store, &file.lake_file);
            PassingRows::of(&index.predicate, &file).await
        });
        let passing = passing.await?.as_ref();
        Ok(passing.map(|passing| |rows: &Range<u64>| passing.any(rows)))
    }

    /// The rows of a file, in stretches, that can hold these traces, whichever were asked for.
    pub fn rows_of(&self, file: usize, trace_ids: &[TraceId]) -> Vec<Range<u64>> {
        let all = TraceRange {
            first: 0,
            last: u128::MAX,
            row_count: 0,
        };
        let file = self.files.get(file);
        file.map_or_else(Vec::new, |file| file.pages.rows(&all, Some(trace_ids)))
    }

    /// What reads these expressions over [`span_column_schema`], each with its name.
    pub fn reader(&self, columns: Vec<ProjectionExpr>) -> Result<SpanReader> {
        let files = self.files.iter().map(|_| OnceLock::new());
        Ok(SpanReader {
            columns: SpanColumns::try_new(columns)?,
            files: files.collect(),
        })
    }

    /// Reads these rows of a file, in order.
    pub fn read(
        &self,
        reader: &SpanReader,
        file: usize,
        rows: &[Range<u64>],
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<>> {
        let TraceFile {
            metadata,
            lake_file,
            ..
        } = &self.files[file];
        let lake_file = Arc::clone(lake_file);
        let input = FileReader::new(&self.store, &lake_file);
        let columns = reader.of_file(file, metadata);
        let columns = columns.map_err(|error| while_reading(&lake_file, error.into()))?;
        let groups = selections(rows, metadata);
        let bytes_scanned = self.bytes_scanned.clone();
        let batches = futures::stream::iter(groups).then(move |(group, rows)| {
            let (columns, mut input) = (Arc::clone(&columns), input.clone());
            let (lake_file, bytes_scanned) = (Arc::clone(&lake_file), bytes_scanned.clone());
            async move {
                let groups = [group];
                let read = columns.stored.read(&mut input, &groups, Some(&rows));
                let (bytes, batches) = read
                    .await
                    .map_err(|error| while_reading(&lake_file, error))?;
                bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
                let batches = batches.map(move |batch| {
                    let batch = batch.map_err(|error| while_reading(&lake_file, error))?;
                    let (_, stored, _) = batch.into_parts();
                    // What goes wrong in an expression is no fault of the file.
                    columns.file.rows(&columns.file.stored(stored)?)
                });
                Ok::<_, DataFusionError>(futures::stream::iter(batches))
            }
        });
        // Once fetched, a row group is decoded without a break: files that are read at the same
        // time would otherwise all hold the room that a reader takes for a batch.
        Ok(Box::pin(batches.try_flatten()))
    }
}

/// Reads certain columns of spans, and expressions over them.
#[derive(Debug, Clone)]
pub struct SpanReader {
    columns: SpanColumns,
    /// How they are read from each file, once one is.
    files: Arc<[OnceLock<Arc<ReadColumns>>]>,
}

#[derive(Debug)]
struct ReadColumns {
    stored: StoredColumns,
    file: FileColumns,
}

impl SpanReader {
    fn of_file(&self, file: usize, metadata: &Arc<ParquetMetaData>) -> Result<Arc<ReadColumns>> {
        if let Some(known) = self.files[file].get() {
            return Ok(Arc::clone(known));
        }
        let schema = FileSchema::try_new(Arc::clone(metadata))?;
        let columns = FileColumns::try_new(&schema, &self.columns)?;
        let columns = ReadColumns {
            stored: StoredColumns::try_new(&schema, columns.roots())?,
            file: columns,
        };
        Ok(Arc::clone(
            self.files[file].get_or_init(|| Arc::new(columns)),
        ))
    }
}

/// The row groups in which some of `rows` lie, each with those of its rows.
fn selections(rows: &[Range<u64>], metadata: &ParquetMetaData) -> Vec<(usize, RowSelection)> {
    let total = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    let mut rest = selection(rows, total);
    let groups = metadata.row_groups().iter().enumerate();
    let groups = groups.map(|(index, group)| {
        let count = usize::try_from(group.num_rows()).unwrap_or(0);
        (index, rest.split_off(count))
    });
    groups.filter(|(_, rows)| rows.selects_any()).collect()
}

fn selection(rows: &[Range<u64>], total: u64) -> RowSelection {
    let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let mut selectors = Vec::with_capacity(rows.len() * 2 + 1);
    let mut at = 0;
    for stretch in rows {
        selectors.push(RowSelector::skip(count(stretch.start - at)));
        selectors.push(RowSelector::select(count(stretch.end - stretch.start)));
        at = stretch.end;
    }
    selectors.push(RowSelector::skip(count(total - at)));
    RowSelection::from(selectors)
}
