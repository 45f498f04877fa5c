//! How the pages of some columns of a file lie beside each other, and which of them some rows need.
//!
//! Read [`PageLayout`]. Pages of different columns need not begin at the same rows: long values
//! make shorter pages.
//!
//! ```text
//! rows        0        2048      4096      6144
//! a           |---a0----|---a1----|---a2----|
//! b           |--------b0---------|---b1----|
//! stretches   |---------0---------|----1----|
//! ```
//!
//! A stretch goes from a row at which a page of every column begins to the next such row. Rows are
//! kept or left out by stretches, so that what is kept consists of whole pages in every column.

use std::ops::Range;
use std::sync::Arc;

use parquet::arrow::arrow_reader::RowSelection;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;

/// Leaf columns of a file that are read together.
#[derive(Debug)]
pub struct PageLayout {
    metadata: Arc<ParquetMetaData>,
    leaves: Vec<usize>,
    row_groups: Vec<RowGroupLayout>,
}

#[derive(Debug)]
struct RowGroupLayout {
    row_count: usize,
    /// The first rows of the stretches.
    starts: Vec<usize>,
    /// In the order of the leaves, what the reader is told of those that are compressed with zstd:
    /// that they are not.
    decompressed: Vec<Option<ColumnChunkMetaData>>,
}

/// Rows of a row group that are kept, in ranges that begin and end with stretches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeptRows {
    ranges: Vec<Range<usize>>,
}

impl PageLayout {
    /// For the leaf columns `leaves`, in order.
    pub fn try_new(metadata: &Arc<ParquetMetaData>, leaves: Vec<usize>) -> Result<Self> {
        let row_groups = (0..metadata.num_row_groups())
            .map(|group| RowGroupLayout::try_new(metadata, group, &leaves));
        Ok(Self {
            row_groups: row_groups.collect::<Result<_>>()?,
            metadata: Arc::clone(metadata),
            leaves,
        })
    }

    pub(super) fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    pub(super) fn leaves(&self) -> &[usize] {
        &self.leaves
    }

    pub(super) fn row_count(&self, group: usize) -> usize {
        self.row_groups[group].row_count
    }

    /// Where the pages of a leaf lie; `None` where the file does not say.
    pub(super) fn locations(&self, group: usize, leaf: usize) -> Option<&[PageLocation]> {
        page_locations(&self.metadata, group, leaf)
    }

    /// What the reader is told of the leaf that is the `place`th, and whether it is told wrongly
    /// that pages are not compressed.
    pub(super) fn column(&self, group: usize, place: usize) -> (&ColumnChunkMetaData, bool) {
        match &self.row_groups[group].decompressed[place] {
            Some(column) => (column, true),
            None => (
                self.metadata.row_group(group).column(self.leaves[place]),
                false,
            ),
        }
    }

    /// The stretches in which `ranges` lie, which are sorted.
    pub(super) fn kept_rows(&self, group: usize, ranges: &[Range<usize>]) -> KeptRows {
        let RowGroupLayout {
            row_count, starts, ..
        } = &self.row_groups[group];
        let mut kept = KeptRows::default();
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let start = starts[starts.partition_point(|start| *start <= range.start) - 1];
            let next = starts.partition_point(|start| *start < range.end);
            let end = starts.get(next).copied().unwrap_or(*row_count);
            match kept.ranges.last_mut() {
                Some(last) if start <= last.end => last.end = end.max(last.end),
                _ => kept.ranges.push(start..end),
            }
        }
        kept
    }

    /// All rows of a row group.
    pub(super) fn all_rows(&self, group: usize) -> KeptRows {
        let row_count = self.row_groups[group].row_count;
        self.kept_rows(group, std::slice::from_ref(&(0..row_count)))
    }
}

impl RowGroupLayout {
    fn try_new(metadata: &ParquetMetaData, group: usize, leaves: &[usize]) -> Result<Self> {
        let row_group = metadata.row_group(group);
        let mut starts: Option<Vec<usize>> = None;
        let row_count = usize::try_from(row_group.num_rows())?;
        for leaf in leaves {
            let pages = page_locations(metadata, group, *leaf).unwrap_or_default();
            check_pages(pages, row_group.column(*leaf), row_count)?;
            let pages = pages.iter().map(|page| page.first_row_index as usize);
            match &mut starts {
                None => starts = Some(pages.collect()),
                Some(starts) if pages.clone().eq(starts.iter().copied()) => {}
                Some(starts) => {
                    let mut pages = pages.peekable();
                    starts.retain(|start| {
                        while pages.next_if(|page| page < start).is_some() {}
                        pages.peek() == Some(start)
                    });
                }
            }
        }
        // Rows before the first page of all columns there are none; where a file says nothing of
        // pages, its row groups are stretches.
        let starts = starts.filter(|starts| starts.first() == Some(&0));
        let decompressed = leaves.iter().map(|leaf| {
            let column = row_group.column(*leaf);
            if !matches!(column.compression(), Compression::ZSTD(_)) {
                return Ok(None);
            }
            let column = column.clone().into_builder();
            let column = column.set_compression(Compression::UNCOMPRESSED);
            column.build().map(Some)
        });
        Ok(Self {
            row_count,
            starts: starts.unwrap_or_else(|| vec![0]),
            decompressed: decompressed.collect::<Result<_>>()?,
        })
    }
}

impl KeptRows {
    pub(super) fn count(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// The pages that hold kept rows, each with the row that its first one is among them.
    pub(super) fn pages<'a>(
        &self,
        pages: &'a [PageLocation],
    ) -> impl Iterator<Item = (&'a PageLocation, usize)> {
        let first_row = |page: &PageLocation| page.first_row_index as usize;
        let at = move |row: usize| pages.partition_point(|page| first_row(page) < row);
        self.numbered().flat_map(move |(range, start)| {
            let pages = pages[at(range.start)..at(range.end)].iter();
            pages.map(move |page| (page, first_row(page) - range.start + start))
        })
    }

    /// What the numbers of `ranges`, which are sorted and all kept, are if only kept rows are
    /// counted, from `first` on.
    pub(super) fn renumber(&self, ranges: &[Range<usize>], first: usize) -> Vec<Range<usize>> {
        let mut kept = self.numbered().peekable();
        let ranges = ranges.iter().filter(|range| !range.is_empty());
        let renumbered = ranges.filter_map(|range| {
            while kept.next_if(|(kept, _)| kept.end <= range.start).is_some() {}
            let (kept, start) = kept.peek()?;
            let begin = first + start + range.start - kept.start;
            Some(begin..begin + range.len())
        });
        renumbered.collect()
    }

    /// Ranges of kept rows, each with the number of kept rows before it.
    fn numbered(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        self.ranges.iter().scan(0, |count, range| {
            let start = *count;
            *count += range.len();
            Some((range.clone(), start))
        })
    }
}

/// That pages lie where they can.
fn check_pages(
    pages: &[PageLocation],
    column: &ColumnChunkMetaData,
    row_count: usize,
) -> Result<()> {
    let (start, length) = column.byte_range();
    let is_inside = |page: &PageLocation| {
        let offset = u64::try_from(page.offset).ok()?.checked_sub(start)?;
        let end = offset.checked_add(u64::try_from(page.compressed_page_size).ok()?)?;
        let row = usize::try_from(page.first_row_index).ok()?;
        (end <= length && row <= row_count).then_some(())
    };
    let are_sorted = pages.is_sorted_by_key(|page| page.first_row_index);
    if are_sorted && pages.iter().all(|page| is_inside(page).is_some()) {
        return Ok(());
    }
    let path = column.column_path().string();
    let message = format!("the page index is damaged; column=`{path}`");
    Err(ParquetError::General(message))
}

fn page_locations(
    metadata: &ParquetMetaData,
    group: usize,
    leaf: usize,
) -> Option<&[PageLocation]> {
    let index = metadata.offset_index()?.get(group)?.get(leaf)?;
    Some(index.page_locations().as_slice())
}

/// The rows that a selection selects.
pub(super) fn selected_ranges(selection: &RowSelection) -> Vec<Range<usize>> {
    let mut row = 0;
    let mut ranges = Vec::new();
    for selector in selection.iter() {
        let start = row;
        row += selector.row_count;
        if !selector.skip {
            ranges.push(start..row);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(starts: &[usize], row_count: usize) -> PageLayout {
        use parquet::file::metadata::FileMetaData;
        use parquet::schema::types::{SchemaDescriptor, Type};
        let root = Type::group_type_builder("root").build().unwrap();
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
        let file = FileMetaData::new(1, row_count as i64, None, None, schema, None);
        PageLayout {
            metadata: Arc::new(ParquetMetaData::new(file, Vec::new())),
            leaves: Vec::new(),
            row_groups: vec![RowGroupLayout {
                row_count,
                starts: starts.to_vec(),
                decompressed: Vec::new(),
            }],
        }
    }

    fn page(first_row: i64) -> PageLocation {
        PageLocation {
            offset: 100 + first_row,
            compressed_page_size: 1,
            first_row_index: first_row,
        }
    }

    #[test]
    fn whole_stretches_are_kept_and_their_rows_counted_anew() {
        let layout = layout(&[0, 10, 30, 40], 45);
        let ranges = [12..13, 15..16, 29..31, 44..45];
        let kept = layout.kept_rows(0, &ranges);
        assert_eq!(kept.ranges, vec![10..45; 1]);
        let ranges = [3..4, 8..9, 31..31, 32..40];
        let kept = layout.kept_rows(0, &ranges);
        assert_eq!(kept.ranges, [0..10, 30..40]);
        assert_eq!(kept.count(), 20);
        assert_eq!(kept.renumber(&ranges, 100), [103..104, 108..109, 112..120]);
        let pages: Vec<_> = [0, 5, 10, 20, 30, 40].map(page).to_vec();
        let found: Vec<_> = kept
            .pages(&pages)
            .map(|(page, row)| (page.first_row_index, row))
            .collect();
        assert_eq!(found, [(0, 0), (5, 5), (30, 10)]);
        assert_eq!(layout.all_rows(0).ranges, vec![0..45; 1]);
        assert_eq!(layout.kept_rows(0, &[]).count(), 0);
    }
}
