//! Reads the rows of some traces from one file, in two steps: which rows they are, by the ids
//! alone, and then these rows of every other column, several columns at once.
//!
//! Read [`read_traces`]. A reader of all columns would do it on one core, and look through the
//! pages of all of them for each that it decodes. Columns without a value are not read at all.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, RecordBatch, new_null_array,
};
use arrow::compute::{concat, filter};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::file::metadata::ParquetMetaData;
use tokio::task::JoinSet;

use super::file_columns::{FileSchema, StoredColumns};
use super::row_ranges::row_ranges;
use crate::error::{Error, Result};
use crate::span::TraceId;
use crate::storage::{FileReader, LakeFile, Store};

/// Parts that the columns of a file are read in.
const PARTS: usize = 8;

/// Rows that are read at once, so that those of a very long trace need not be held together.
const PIECE_ROWS: usize = 64 << 10;

/// The columns of a file that are read.
#[derive(Debug)]
pub(super) struct ColumnParts {
    metadata: Arc<ParquetMetaData>,
    trace_id: StoredColumns,
    parts: Vec<Arc<StoredColumns>>,
    /// What stands in the place of each column, in order.
    places: Vec<Place>,
}

#[derive(Debug)]
enum Place {
    TraceId,
    /// The next column of the parts.
    Read,
    /// Nobody has a value.
    Null(DataType),
}

impl ColumnParts {
    /// For the columns `roots` of a file, in order, of which one is `trace_id`.
    pub(super) fn try_new(file: &FileSchema, roots: &[usize], trace_id: usize) -> Result<Self> {
        let metadata = Arc::clone(file.metadata());
        let mut places = Vec::with_capacity(roots.len());
        let mut read = Vec::new();
        for root in roots {
            places.push(if *root == trace_id {
                Place::TraceId
            } else if is_null(&metadata, *root) {
                Place::Null(file.schema().field(*root).data_type().clone())
            } else {
                read.push(*root);
                Place::Read
            });
        }
        let size = read.len().div_ceil(PARTS).max(1);
        let parts = read
            .chunks(size)
            .map(|roots| StoredColumns::try_new(file, roots).map(Arc::new));
        Ok(Self {
            trace_id: StoredColumns::try_new(file, &[trace_id])?,
            parts: parts.collect::<datafusion::common::Result<_>>()?,
            places,
            metadata,
        })
    }
}

/// Whether the statistics of a column say that it has no value.
fn is_null(metadata: &ParquetMetaData, root: usize) -> bool {
    let schema = metadata.file_metadata().schema_descr();
    let mut leaves = (0..schema.num_columns()).filter(|l| schema.get_column_root_idx(*l) == root);
    let (Some(leaf), None) = (leaves.next(), leaves.next()) else {
        return false;
    };
    metadata.row_groups().iter().all(|group| {
        let column = group.column(leaf);
        let nulls = column.statistics().and_then(|s| s.null_count_opt());
        // Of a list the entries are counted.
        schema.column(leaf).max_rep_level() == 0
            && nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(group.num_rows()))
    })
}

/// Hands `take` the rows of a file that belong to the traces `ids`, which are sorted: the columns of
/// `parts`, in batches. Without `pruning` every id is compared.
pub(super) async fn read_traces(
    store: &Store,
    file: &Arc<LakeFile>,
    parts: &ColumnParts,
    ids: &[TraceId],
    pruning: bool,
    mut take: impl FnMut(Vec<ArrayRef>) -> Result<()>,
) -> Result<()> {
    let Some((rows, ids)) = find_rows(store, file, parts, ids, pruning).await? else {
        return Ok(());
    };
    let rows = Arc::new(rows);
    for start in (0..ids.len()).step_by(PIECE_ROWS) {
        let count = PIECE_ROWS.min(ids.len() - start);
        let rows = match count == ids.len() {
            true => Arc::clone(&rows),
            false => Arc::new(rows.piece(start..start + count)),
        };
        let ids = ids.slice(start, count);
        let read = read_parts(store, file, &parts.parts, &rows).await?;
        let batches = put_together(&ids, &read, &parts.places)?;
        batches.into_iter().try_for_each(&mut take)?;
    }
    Ok(())
}

/// These rows of each part, in batches, several parts at once.
async fn read_parts(
    store: &Store,
    file: &Arc<LakeFile>,
    parts: &[Arc<StoredColumns>],
    rows: &Arc<Rows>,
) -> Result<Vec<Vec<RecordBatch>>> {
    // Dropping them stops them.
    let mut tasks = JoinSet::new();
    for (index, part) in parts.iter().enumerate() {
        let input = FileReader::new(store, file);
        let (part, rows) = (Arc::clone(part), Arc::clone(rows));
        tasks.spawn(async move {
            let mut batches = Vec::new();
            for batch in rows.read(input, &part).await? {
                batches.push(batch?);
                tokio::task::yield_now().await;
            }
            Ok::<_, Error>((index, batches))
        });
    }
    let mut read = vec![Vec::new(); parts.len()];
    while let Some(done) = tasks.join_next().await {
        let (index, batches) = done
            .map_err(|error| Error::internal("reading a file was stopped").with_source(error))??;
        read[index] = batches;
    }
    Ok(read)
}

/// Rows of a file.
struct Rows {
    row_groups: Vec<usize>,
    /// Of those row groups; all of them where not said.
    selection: Option<RowSelection>,
}

impl Rows {
    /// Those of the pages in which one of `ids` may stand.
    fn of_pages(metadata: &ParquetMetaData, ids: &[TraceId], pruning: bool) -> Result<Self> {
        let plan = pruning.then(|| row_ranges(metadata, ids)).flatten();
        let (row_groups, selection) = match plan {
            Some(plan) => {
                let row_groups = plan.row_group_indexes();
                let selection = plan.into_overall_row_selection(metadata.row_groups())?;
                (row_groups, selection)
            }
            None => ((0..metadata.num_row_groups()).collect(), None),
        };
        Ok(Self {
            row_groups,
            selection,
        })
    }

    /// Those of them that pass filters, one for each batch of them.
    fn passing(self, filters: &[BooleanArray]) -> Self {
        let passing = RowSelection::from_filters(filters);
        Self {
            selection: Some(match self.selection {
                Some(selection) => selection.and_then(&passing),
                None => passing,
            }),
            ..self
        }
    }

    /// Those of them that stand at `places` among them all.
    fn piece(&self, places: Range<usize>) -> Self {
        let all = self.selection.as_ref().map_or(0, RowSelection::row_count);
        let piece = RowSelection::from_consecutive_ranges(std::iter::once(places), all);
        let selection = self.selection.as_ref();
        Self {
            row_groups: self.row_groups.clone(),
            selection: selection.map(|rows| rows.and_then(&piece)),
        }
    }

    /// Reads them, in batches.
    async fn read(
        &self,
        mut input: FileReader,
        columns: &StoredColumns,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let selection = self.selection.as_ref();
        let read = columns.read(&mut input, &self.row_groups, selection);
        let (_, batches) = read.await?;
        Ok(batches)
    }
}

/// The rows in which one of `ids` stands, and their ids; `None` where there is none.
async fn find_rows(
    store: &Store,
    file: &Arc<LakeFile>,
    parts: &ColumnParts,
    ids: &[TraceId],
    pruning: bool,
) -> Result<Option<(Rows, ArrayRef)>> {
    let rows = Rows::of_pages(&parts.metadata, ids, pruning)?;
    let (mut filters, mut found) = (Vec::new(), Vec::<ArrayRef>::new());
    for batch in rows
        .read(FileReader::new(store, file), &parts.trace_id)
        .await?
    {
        let batch = batch?;
        let stored = batch.column(0).as_fixed_size_binary_opt();
        let stored = stored.filter(|stored| stored.value_length() == 16);
        let stored =
            stored.ok_or_else(|| Error::corrupt("trace ids are not stored as 16 bytes"))?;
        let matches = rows_of(stored, ids);
        found.push(filter(stored, &matches)?);
        filters.push(matches);
        // Whoever asked to stop is heard between batches.
        tokio::task::yield_now().await;
    }
    let found: Vec<&dyn Array> = found.iter().map(AsRef::as_ref).collect();
    if found.iter().all(|ids| ids.is_empty()) {
        return Ok(None);
    }
    let ids = concat(&found)?;
    Ok(Some((rows.passing(&filters), ids)))
}

/// Which rows hold one of `ids`, all of 16 bytes. The rows of a trace follow one another.
fn rows_of(stored: &FixedSizeBinaryArray, ids: &[TraceId]) -> BooleanArray {
    let mut before: Option<([u8; 16], bool)> = None;
    let (values, _) = stored.value_data().as_chunks();
    let matches = values.iter().map(|id| match before {
        Some((same, is_asked_for)) if same == *id => is_asked_for,
        _ => {
            let found = ids.binary_search_by(|asked| asked.as_bytes().cmp(id));
            before = Some((*id, found.is_ok()));
            found.is_ok()
        }
    });
    let matches: Vec<bool> = matches.collect();
    BooleanArray::from(matches)
}

/// The batches of all parts side by side, with what was not read in its place.
fn put_together(
    ids: &ArrayRef,
    parts: &[Vec<RecordBatch>],
    places: &[Place],
) -> Result<Vec<Vec<ArrayRef>>> {
    let mut start = 0;
    let mut batches = Vec::new();
    while start < ids.len() {
        let of_parts = parts.iter().map(|read| read.get(batches.len()));
        let of_parts: Vec<_> = of_parts.collect::<Option<_>>().ok_or_else(uneven)?;
        let row_count = of_parts.first().map_or(ids.len(), |part| part.num_rows());
        if row_count == 0 || start + row_count > ids.len() {
            return Err(uneven());
        }
        let mut read = of_parts.into_iter().flat_map(RecordBatch::columns);
        let columns = places.iter().map(|place| match place {
            Place::TraceId => Ok(ids.slice(start, row_count)),
            Place::Null(data_type) => Ok(new_null_array(data_type, row_count)),
            Place::Read => match read.next() {
                Some(column) if column.len() == row_count => Ok(Arc::clone(column)),
                _ => Err(uneven()),
            },
        });
        batches.push(columns.collect::<Result<_>>()?);
        start += row_count;
    }
    Ok(batches)
}

fn uneven() -> Error {
    Error::internal("the columns of a file have different numbers of rows")
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::RowSelector;

    use super::*;

    #[test]
    fn pieces_are_all_the_rows_in_order() {
        let of_page = [
            RowSelector::skip(3),
            RowSelector::select(4),
            RowSelector::skip(5),
            RowSelector::select(6),
            RowSelector::skip(2),
        ];
        let rows = Rows {
            row_groups: vec![0, 2],
            selection: Some(of_page.to_vec().into()),
        };
        let numbers = |rows: &Rows| -> Vec<usize> {
            let mut at = 0;
            let selectors = rows.selection.iter().flat_map(RowSelection::iter);
            let ranges = selectors.map(|selector| {
                at += selector.row_count;
                let selected = if selector.skip { 0 } else { selector.row_count };
                at - selected..at
            });
            ranges.flatten().collect()
        };
        let all = numbers(&rows);
        assert_eq!(all.len(), 10);
        for size in 1..=10 {
            let pieces = (0..10)
                .step_by(size)
                .map(|start| rows.piece(start..(start + size).min(10)));
            let pieces: Vec<usize> = pieces.flat_map(|piece| numbers(&piece)).collect();
            assert_eq!(pieces, all, "{size}");
        }
    }
}
