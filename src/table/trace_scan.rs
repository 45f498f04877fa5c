//! Reads whole traces: the spans of a range of trace ids out of all files that may hold some.
//!
//! Read [`TraceScan`]. It plans like [`SpansTable`]'s own scan and reads with the same Parquet
//! source, but hands out each file's rows by themselves and in the file's order, so that stored
//! offsets between rows hold. What the rows of a trace mean is not known here.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion_datasource_parquet::metadata::DFParquetMetadata;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::OnceCell;

use super::SpansTable;
use super::adapter::SpanAdapterFactory;
use super::index_predicate::IndexPredicate;
use super::passing_rows::PassingRows;
use super::predicate::SpanPredicate;
use super::provider::{METADATA_READS, located};
use super::pruning::PlannedFile;
use super::trace_ranges::{TracePages, TraceRange, trace_ranges};
use crate::span::{TraceId, logical_schema, storage_schema, stored_name};
use crate::storage::{Indexes, LakeFile, Store};

/// Bytes of the projected columns of a range, decoded, as far as footers tell.
const MOST_RANGE_BYTES: u64 = 128 << 20;

/// Rows of a range at least where columns are wide, so that pages are not read again and again.
const LEAST_RANGE_ROWS: u64 = 16 << 10;

/// Rows of a batch: traces are gathered from them, so larger ones cost nothing.
const BATCH_ROWS: usize = 16 << 10;

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
    store_url: ObjectStoreUrl,
    source: ParquetSource,
    files: Vec<TraceFile>,
    ranges: Vec<TraceRange>,
    trace_ids: Option<Arc<[TraceId]>>,
    start_nanos: (i64, i64),
    is_within_time: bool,
    pruning: bool,
    index: Option<SpanIndex>,
}

/// What indexes are asked for: rows that pass filters.
#[derive(Debug)]
struct SpanIndex {
    predicate: IndexPredicate,
    indexes: Arc<Indexes>,
    store: Store,
}

/// A file and where in it which traces lie.
#[derive(Debug)]
struct TraceFile {
    file: PartitionedFile,
    metadata: Arc<ParquetMetaData>,
    pages: TracePages,
    /// Whether a span of it can start in the time asked for.
    is_asked_for: bool,
    lake_file: Arc<LakeFile>,
    passing: OnceCell<Option<PassingRows>>,
}

/// The columns a [`TraceScan`] can read: those of `spans`, in their order, then the stored ones
/// under names that SQL cannot say.
pub fn trace_scan_schema() -> SchemaRef {
    static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(|| {
        let stored = storage_schema();
        let stored = stored.fields().iter().map(|field| {
            let name = stored_name(field.name());
            Arc::new(Field::new(name, field.data_type().clone(), true))
        });
        let logical = logical_schema();
        let fields = logical.fields().iter().cloned().chain(stored);
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

impl SpansTable {
    /// Plans reading the traces that filters on `trace_id` and `start_time` leave, whole as far
    /// as `scope` goes, with the columns at these indices of [`trace_scan_schema`]. Of those, only
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
        let schema = self.with_text_attributes(trace_scan_schema());
        let is_within_time = plan.files.iter().all(|planned| {
            start_nanos.0 <= planned.file.min_start_nano
                && planned.file.max_start_nano <= start_nanos.1
        });
        let source = self.source(state, schema, &plan, false)?;
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
            store_url: self.store_url.clone(),
            source,
            ranges,
            files,
            trace_ids: ids,
            start_nanos,
            is_within_time,
            pruning: self.pruning,
            index: self.span_index(span_filters),
        })
    }

    fn span_index(&self, span_filters: &[Expr]) -> Option<SpanIndex> {
        let indexes = self.indexes().filter(|_| self.pruning)?;
        let predicate = IndexPredicate::extract(span_filters);
        predicate.is_useful().then(|| SpanIndex {
            predicate,
            indexes: Arc::clone(indexes),
            store: self.log.store().clone(),
        })
    }

    async fn trace_files(
        &self,
        state: &dyn Session,
        files: &[PlannedFile],
        start_nanos: (i64, i64),
    ) -> Result<Vec<TraceFile>> {
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let objects = self.log.store().objects();
        futures::stream::iter(files.to_vec())
            .map(|planned| {
                let (objects, cache) = (Arc::clone(&objects), Arc::clone(&cache));
                async move {
                    let file = PartitionedFile::new_from_meta(located(&planned.file)?);
                    let metadata = DFParquetMetadata::new(objects.as_ref(), &file.object_meta)
                        .with_file_metadata_cache(Some(cache))
                        .fetch_metadata()
                        .await?;
                    let pages = TracePages::of(&metadata);
                    Ok(TraceFile {
                        file,
                        metadata,
                        pages,
                        is_asked_for: planned.file.max_start_nano >= start_nanos.0
                            && planned.file.min_start_nano <= start_nanos.1,
                        lake_file: Arc::clone(&planned.file),
                        passing: OnceCell::new(),
                    })
                }
            })
            .buffered(METADATA_READS)
            .try_collect()
            .await
    }
}

/// About how many bytes a row has in memory, by what footers say of the columns.
fn row_bytes(files: &[TraceFile], columns: &[usize]) -> u64 {
    let schema = trace_scan_schema();
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
        self.source.metrics().clone_inner()
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
            let file = index.indexes.of_file(&index.store, &file.lake_file);
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

    /// What reads these expressions over [`trace_scan_schema`], each with its name.
    pub fn reader(&self, columns: Vec<ProjectionExpr>) -> Result<SpanReader> {
        let projection = ProjectionExprs::new(columns);
        match self.source.try_pushdown_projection(&projection)? {
            Some(source) => Ok(SpanReader { source }),
            None => internal_err!("the scan of spans takes no projection"),
        }
    }

    /// Reads these rows of a file, in order.
    pub fn read(
        &self,
        reader: &SpanReader,
        file: usize,
        rows: &[Range<u64>],
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let file = &self.files[file];
        let groups = file.metadata.row_groups();
        let total = u64::try_from(file.metadata.file_metadata().num_rows()).unwrap_or(0);
        let selection = selection(rows, total);
        let access = ParquetAccessPlan::try_new_from_overall_row_selection(selection, groups)?;
        let group = FileGroup::new(vec![file.file.clone().with_extension(access)]);
        let source = Arc::clone(&reader.source);
        let config = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(vec![group])
            .with_batch_size(Some(BATCH_ROWS))
            .with_expr_adapter(Some(Arc::new(SpanAdapterFactory)))
            .build();
        DataSourceExec::from_data_source(config).execute(0, context)
    }
}

/// Reads certain columns of spans, and expressions over them.
#[derive(Clone)]
pub struct SpanReader {
    source: Arc<dyn FileSource>,
}

impl std::fmt::Debug for SpanReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanReader").finish_non_exhaustive()
    }
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

/// The index of a stored column in [`trace_scan_schema`].
pub fn stored_index(name: &str) -> Result<usize> {
    Ok(trace_scan_schema().index_of(&stored_name(name))?)
}

/// The column at an index of [`trace_scan_schema`], for a [`SpanReader`].
pub fn scan_column(index: usize) -> ProjectionExpr {
    let schema = trace_scan_schema();
    let name = schema.field(index).name();
    ProjectionExpr::new(Arc::new(Column::new(name, index)), name.clone())
}
