//! Reads the rows of some traces from one file, in two steps: which rows they are, by the ids
//! alone, and then these rows of every other column, several columns at once.
//!
//! Read [`read_traces`]. A reader of all columns would do it on one core, and the pages it holds
//! are looked through for each page it decodes: a few columns at a time are faster even on one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::{concat, filter};
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use tokio::task::JoinSet;

use super::row_ranges::row_ranges;
use crate::error::{Error, Result};
use crate::span::TraceId;
use crate::storage::{FileReader, LakeFile, Store};

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Parts that the columns of a file are read in.
const PARTS: usize = 4;

/// The columns of a file that are read, by their places in it.
#[derive(Debug)]
pub(super) struct ColumnParts {
    trace_id: usize,
    /// In order, without that of the ids.
    parts: Vec<Vec<usize>>,
    /// Where the ids stand among them all.
    trace_id_place: usize,
}

impl ColumnParts {
    /// For the columns `roots`, in order, of which one is `trace_id`.
    pub(super) fn new(roots: &[usize], trace_id: usize) -> Self {
        let others: Vec<usize> = roots.iter().copied().filter(|r| *r != trace_id).collect();
        let size = others.len().div_ceil(PARTS).max(1);
        Self {
            trace_id,
            trace_id_place: others.partition_point(|root| *root < trace_id),
            parts: others.chunks(size).map(<[usize]>::to_vec).collect(),
        }
    }
}

/// The rows of a file that belong to the traces `ids`, which are sorted: the columns of `parts`,
/// in batches. Without `pruning` every id is compared.
pub(super) async fn read_traces(
    store: &Store,
    file: &Arc<LakeFile>,
    reader: &ArrowReaderMetadata,
    parts: &ColumnParts,
    ids: &[TraceId],
    pruning: bool,
) -> Result<Vec<Vec<ArrayRef>>> {
    let Some(rows) = find_rows(store, file, reader, parts, ids, pruning).await? else {
        return Ok(Vec::new());
    };
    // Dropping them stops them.
    let mut tasks = JoinSet::new();
    for (index, part) in parts.parts.iter().enumerate() {
        let (store, file, reader) = (store.clone(), Arc::clone(file), reader.clone());
        let (part, rows) = (part.clone(), rows.clone());
        tasks.spawn(async move {
            let batches = rows.read(&store, &file, &reader, part).await?;
            Ok::<_, Error>((index, batches))
        });
    }
    let mut read = vec![Vec::new(); parts.parts.len()];
    while let Some(done) = tasks.join_next().await {
        let (index, batches) = done
            .map_err(|error| Error::internal("reading a file was stopped").with_source(error))??;
        read[index] = batches;
    }
    put_together(&rows, &read, parts.trace_id_place)
}

/// Rows of a file, and the ids in them.
#[derive(Clone)]
struct Rows {
    row_groups: Option<Vec<usize>>,
    /// Of those row groups.
    selection: RowSelection,
    ids: ArrayRef,
}

impl Rows {
    async fn read(
        &self,
        store: &Store,
        file: &LakeFile,
        reader: &ArrowReaderMetadata,
        columns: Vec<usize>,
    ) -> Result<Vec<RecordBatch>> {
        let mask = ProjectionMask::roots(reader.parquet_schema(), columns);
        let input = FileReader::new(store, file);
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(input, reader.clone())
            .with_batch_size(BATCH_ROWS)
            .with_projection(mask)
            .with_row_selection(self.selection.clone());
        if let Some(row_groups) = &self.row_groups {
            builder = builder.with_row_groups(row_groups.clone());
        }
        Ok(builder.build()?.try_collect().await?)
    }
}

/// The rows in which one of `ids` stands; `None` where there is none.
async fn find_rows(
    store: &Store,
    file: &LakeFile,
    reader: &ArrowReaderMetadata,
    parts: &ColumnParts,
    ids: &[TraceId],
    pruning: bool,
) -> Result<Option<Rows>> {
    let mask = ProjectionMask::roots(reader.parquet_schema(), [parts.trace_id]);
    let input = FileReader::new(store, file);
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(input, reader.clone())
        .with_batch_size(BATCH_ROWS)
        .with_projection(mask);
    let mut row_groups = None;
    let mut pages = None;
    if pruning && let Some(ranges) = row_ranges(reader.metadata(), ids) {
        let indexes = ranges.row_group_indexes();
        builder = builder.with_row_groups(indexes.clone());
        row_groups = Some(indexes);
        pages = ranges.into_overall_row_selection(reader.metadata().row_groups())?;
        if let Some(pages) = &pages {
            builder = builder.with_row_selection(pages.clone());
        }
    }
    let mut stream = builder.build()?;
    let mut filters = Vec::new();
    let mut found: Vec<ArrayRef> = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        let column = batch.column(0);
        let stored = column
            .as_fixed_size_binary_opt()
            .ok_or_else(|| Error::corrupt("trace ids are not stored as bytes"))?;
        let matches = rows_of(stored, ids);
        found.push(filter(column, &matches)?);
        filters.push(matches);
    }
    let found: Vec<&dyn Array> = found.iter().map(|ids| &**ids).collect();
    if found.iter().all(|ids| ids.is_empty()) {
        return Ok(None);
    }
    let ids = concat(&found)?;
    let matching = RowSelection::from_filters(&filters);
    let selection = match pages {
        Some(pages) => pages.and_then(&matching),
        None => matching,
    };
    Ok(Some(Rows {
        row_groups,
        selection,
        ids,
    }))
}

/// Which rows hold one of `ids`. The rows of a trace follow one another.
fn rows_of(stored: &FixedSizeBinaryArray, ids: &[TraceId]) -> BooleanArray {
    let mut before: Option<(&[u8], bool)> = None;
    let matches = (0..stored.len()).map(|row| {
        let id = stored.value(row);
        match before {
            Some((same, is_asked_for)) if same == id => is_asked_for,
            _ => {
                let found = ids.binary_search_by(|asked| asked.as_bytes()[..].cmp(id));
                before = Some((id, found.is_ok()));
                found.is_ok()
            }
        }
    });
    matches.map(Some).collect()
}

/// The batches of all parts side by side, with the ids in their place.
fn put_together(
    rows: &Rows,
    parts: &[Vec<RecordBatch>],
    trace_id_place: usize,
) -> Result<Vec<Vec<ArrayRef>>> {
    let count = parts.first().map_or(0, Vec::len);
    let mut batches = Vec::with_capacity(count);
    let mut start = 0;
    for index in 0..count {
        let of_parts = parts.iter().map(|batches| batches.get(index));
        let of_parts: Option<Vec<_>> = of_parts.collect();
        let of_parts = of_parts.ok_or_else(uneven)?;
        let row_count = of_parts[0].num_rows();
        if of_parts.iter().any(|part| part.num_rows() != row_count) {
            return Err(uneven());
        }
        let columns = of_parts.iter().flat_map(|part| part.columns());
        let mut columns: Vec<ArrayRef> = columns.cloned().collect();
        columns.insert(trace_id_place, rows.ids.slice(start, row_count));
        start += row_count;
        batches.push(columns);
    }
    if start != rows.ids.len() {
        return Err(uneven());
    }
    Ok(batches)
}

fn uneven() -> Error {
    Error::internal("the columns of a file have different numbers of rows")
}
