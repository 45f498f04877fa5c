//! The pages of a file in which some rows lie, fetched at once and decompressed as they are
//! decoded.
//!
//! Read [`ColumnPages`]. The library's reader goes past the pages of other rows one by one, in
//! every column; to it the pages that were fetched are all there are.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::{RowGroups, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::decompressed_pages::DecompressedPages;
use super::page_layout::{KeptRows, PageLayout, selected_ranges};

/// Bytes between two pages that are read with them: to ask twice takes longer.
const NEAR_BYTES: u64 = 16 << 10;

/// Pages of some columns of some row groups.
pub struct ColumnPages {
    layout: Arc<PageLayout>,
    row_groups: Vec<FetchedRowGroup>,
}

struct FetchedRowGroup {
    index: usize,
    row_count: usize,
    /// In the order of the layout's leaves.
    columns: Vec<FetchedColumn>,
}

/// A column of a row group, or as much of it as was fetched.
struct FetchedColumn {
    /// Where its pages are taken to lie, one after the other; none where the file does not say.
    locations: Option<Vec<PageLocation>>,
    bytes: Arc<FetchedBytes>,
}

impl ColumnPages {
    /// Fetches what the selected rows of these row groups need of the columns of a layout. The
    /// selection that is returned is the same one among the rows that were fetched.
    pub async fn fetch(
        input: &mut impl AsyncFileReader,
        layout: &Arc<PageLayout>,
        row_groups: &[usize],
        selection: Option<&RowSelection>,
    ) -> Result<(Self, Option<RowSelection>)> {
        let mut rest = selection.cloned();
        let mut plan = FetchPlan::default();
        let (mut selected, mut row_count) = (Vec::new(), 0);
        for index in row_groups {
            let count = layout.row_count(*index);
            let kept = match rest.as_mut().map(|rest| rest.split_off(count)) {
                Some(selection) => {
                    let ranges = selected_ranges(&selection);
                    let kept = layout.kept_rows(*index, &ranges);
                    selected.extend(kept.renumber(&ranges, row_count));
                    kept
                }
                None => layout.all_rows(*index),
            };
            row_count += kept.count();
            plan.add(layout, *index, &kept);
        }
        let row_groups = plan.fetch(input).await?;
        let selected = RowSelection::from_consecutive_ranges(selected.into_iter(), row_count);
        let pages = Self {
            layout: Arc::clone(layout),
            row_groups,
        };
        Ok((pages, selection.map(|_| selected)))
    }

    /// How many rows were fetched.
    pub fn row_count(&self) -> usize {
        self.row_groups.iter().map(|group| group.row_count).sum()
    }

    /// How many bytes the pages take, as they are stored.
    pub fn byte_count(&self) -> u64 {
        let columns = self.row_groups.iter().flat_map(|group| &group.columns);
        let pieces = columns.flat_map(|column| &column.bytes.pieces);
        pieces.map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn pages(&self, group: &FetchedRowGroup, leaf: usize) -> Result<Box<dyn PageReader>> {
        let place = self.layout.leaves().iter().position(|l| *l == leaf);
        let place = place.ok_or_else(|| {
            let message = format!("column {leaf} was not fetched");
            ParquetError::General(message)
        })?;
        let FetchedColumn { locations, bytes } = &group.columns[place];
        let (column, is_compressed) = self.layout.column(group.index, place);
        let pages = SerializedPageReader::new(
            Arc::clone(bytes),
            column,
            group.row_count,
            locations.clone(),
        )?;
        if !is_compressed {
            return Ok(Box::new(pages));
        }
        Ok(Box::new(DecompressedPages {
            pages,
            max_bytes: usize::try_from(column.uncompressed_size())?,
        }))
    }
}

impl RowGroups for ColumnPages {
    fn num_rows(&self) -> usize {
        self.row_count()
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let readers = self.row_groups.iter().map(|group| self.pages(group, leaf));
        Ok(Box::new(ColumnReaders(
            readers.collect::<Vec<_>>().into_iter(),
        )))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        let metadata = self.layout.metadata();
        let groups = self.row_groups.iter();
        Box::new(groups.map(|group| metadata.row_group(group.index)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.layout.metadata()
    }
}

/// The pages of a column, row group by row group.
struct ColumnReaders(std::vec::IntoIter<Result<Box<dyn PageReader>>>);

impl Iterator for ColumnReaders {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl PageIterator for ColumnReaders {}

/// What is to be fetched.
#[derive(Default)]
struct FetchPlan {
    /// Of the file, in order.
    ranges: Vec<Range<u64>>,
    row_groups: Vec<PlannedRowGroup>,
}

struct PlannedRowGroup {
    index: usize,
    row_count: usize,
    columns: Vec<PlannedColumn>,
}

struct PlannedColumn {
    locations: Option<Vec<PageLocation>>,
    pieces: Vec<Piece>,
}

/// A piece of a column chunk.
struct Piece {
    /// Where it is taken to lie.
    place: u64,
    /// The range that it is in, and the bytes of that range before and in it.
    range: usize,
    start: u64,
    length: u64,
}

impl FetchPlan {
    fn add(&mut self, layout: &PageLayout, group: usize, kept: &KeptRows) {
        let row_group = layout.metadata().row_group(group);
        let leaves = layout.leaves().iter();
        let columns = leaves.map(|leaf| {
            let (start, length) = row_group.column(*leaf).byte_range();
            let mut pieces = Vec::new();
            let mut place = start;
            let Some(pages) = layout.locations(group, *leaf) else {
                pieces.push(self.piece(place, start..start + length));
                return PlannedColumn {
                    locations: None,
                    pieces,
                };
            };
            // A dictionary stands before the pages.
            let data = pages.first().map(|page| page.offset as u64);
            if let Some(data) = data.filter(|data| *data > start) {
                pieces.push(self.piece(place, start..data));
                place = data;
            }
            let locations = kept.pages(pages).map(|(page, row)| {
                let (offset, length) = (page.offset as u64, page.compressed_page_size as u64);
                pieces.push(self.piece(place, offset..offset + length));
                let location = PageLocation {
                    offset: place as i64,
                    first_row_index: row as i64,
                    ..page.clone()
                };
                place += length;
                location
            });
            PlannedColumn {
                locations: Some(locations.collect()),
                pieces,
            }
        });
        let columns = columns.collect();
        self.row_groups.push(PlannedRowGroup {
            index: group,
            row_count: kept.count(),
            columns,
        });
    }

    /// Bytes of the file as a piece.
    fn piece(&mut self, place: u64, bytes: Range<u64>) -> Piece {
        let length = bytes.end - bytes.start;
        match self.ranges.last_mut() {
            Some(last) if bytes.start >= last.start && bytes.start <= last.end + NEAR_BYTES => {
                last.end = last.end.max(bytes.end);
            }
            _ => self.ranges.push(bytes.clone()),
        }
        let range = self.ranges.len() - 1;
        Piece {
            place,
            range,
            start: bytes.start - self.ranges[range].start,
            length,
        }
    }

    async fn fetch(self, input: &mut impl AsyncFileReader) -> Result<Vec<FetchedRowGroup>> {
        let fetched = match self.ranges.is_empty() {
            true => Vec::new(),
            false => input.get_byte_ranges(self.ranges).await?,
        };
        let bytes_of = |piece: Piece| {
            let (start, end) = (piece.start as usize, (piece.start + piece.length) as usize);
            let bytes = fetched.get(piece.range).filter(|bytes| end <= bytes.len());
            let bytes = bytes.ok_or_else(|| ParquetError::EOF("a page is cut short".into()))?;
            Ok((piece.place, bytes.slice(start..end)))
        };
        let columns_of = |column: PlannedColumn| {
            let pieces = column.pieces.into_iter().map(bytes_of);
            Ok(FetchedColumn {
                locations: column.locations,
                bytes: Arc::new(FetchedBytes {
                    pieces: pieces.collect::<Result<_>>()?,
                }),
            })
        };
        let row_groups = self.row_groups.into_iter().map(|group| {
            let columns = group.columns.into_iter().map(columns_of);
            Ok(FetchedRowGroup {
                index: group.index,
                row_count: group.row_count,
                columns: columns.collect::<Result<_>>()?,
            })
        });
        row_groups.collect()
    }
}

/// Pieces of a column chunk, each with the place where it is taken to lie, in order.
struct FetchedBytes {
    pieces: Vec<(u64, Bytes)>,
}

impl FetchedBytes {
    /// What was fetched from there on, up to the end of the piece.
    fn from(&self, start: u64) -> Result<Bytes> {
        let after = self.pieces.partition_point(|(place, _)| *place <= start);
        let piece = after.checked_sub(1).map(|index| &self.pieces[index]);
        let bytes = piece.and_then(|(place, bytes)| {
            let begin = usize::try_from(start - place).ok()?;
            (begin <= bytes.len()).then(|| bytes.slice(begin..))
        });
        bytes.ok_or_else(|| ParquetError::General(format!("no page was fetched at {start}")))
    }
}

impl Length for FetchedBytes {
    fn len(&self) -> u64 {
        let last = self.pieces.last();
        last.map_or(0, |(place, bytes)| place + bytes.len() as u64)
    }
}

impl ChunkReader for FetchedBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("a page at {start} is cut short")));
        }
        Ok(bytes.slice(..length))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelector,
    };
    use parquet::arrow::{ArrowWriter, ProjectionMask, parquet_to_arrow_field_levels};
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::metadata::PageIndexPolicy;
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;

    fn rows() -> RecordBatch {
        let numbers = Int64Array::from_iter((0..1000).map(|n| (n % 7 > 0).then_some(n)));
        let texts =
            StringArray::from_iter((0..1000).map(|n| (n % 5 > 0).then(|| format!("text {n}"))));
        let few = StringArray::from_iter_values((0..1000).map(|n| ["a", "b", "c"][n % 3]));
        let lists = (0..1000).map(|n| (n % 4 > 0).then(|| vec![Some(n); n as usize % 4 - 1]));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        let columns: [(&str, ArrayRef); 4] = [
            ("numbers", Arc::new(numbers)),
            ("texts", Arc::new(texts)),
            ("few", Arc::new(few)),
            ("lists", Arc::new(lists)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap()
    }

    /// A file in which pages are no longer than that, too: those of long values have fewer rows.
    fn written(
        rows: &RecordBatch,
        version: WriterVersion,
        compression: Compression,
        page_bytes: usize,
    ) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(compression)
            .set_data_page_row_count_limit(20)
            .set_data_page_size_limit(page_bytes)
            .set_write_batch_size(5)
            .set_max_row_group_row_count(Some(400))
            .set_column_dictionary_enabled("texts".into(), false)
            .build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        file
    }

    async fn read(file: Vec<u8>, groups: &[usize], selection: Option<RowSelection>) -> RecordBatch {
        let mut input = Cursor::new(file);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load_async(&mut input, options)
            .await
            .unwrap();
        let layout = PageLayout::try_new(metadata.metadata(), vec![0, 1, 2, 3]);
        let layout = Arc::new(layout.unwrap());
        let fetched = ColumnPages::fetch(&mut input, &layout, groups, selection.as_ref());
        let (pages, selection) = fetched.await.unwrap();
        let mask = ProjectionMask::all();
        let fields = metadata.schema().fields();
        let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, Some(fields));
        let levels = levels.unwrap();
        let reader =
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &pages, 64, selection);
        let batches: Vec<_> = reader.unwrap().map(std::result::Result::unwrap).collect();
        concat_batches(metadata.schema(), &batches).unwrap()
    }

    #[tokio::test]
    async fn rows_are_those_that_were_written_however_pages_are_compressed() {
        let all = rows();
        let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
        let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
        let compressions = [zstd, Compression::LZ4_RAW, Compression::UNCOMPRESSED];
        for (version, compression, page_bytes) in versions.into_iter().flat_map(|version| {
            compressions
                .into_iter()
                .flat_map(move |c| [90, 1 << 20].map(|page_bytes| (version, c, page_bytes)))
        }) {
            let file = written(&all, version, compression, page_bytes);
            assert_eq!(read(file.clone(), &[0, 1, 2], None).await, all);
            // Of the first and the last row group: rows 3 to 5, 250 and 990 to 992.
            let stretches = [(3, 2), (245, 1), (339, 2)];
            let selectors = stretches.into_iter().flat_map(|(skipped, selected)| {
                [RowSelector::skip(skipped), RowSelector::select(selected)]
            });
            let selection = RowSelection::from(selectors.collect::<Vec<_>>());
            let found = read(file.clone(), &[0, 2], Some(selection)).await;
            let wanted = [all.slice(3, 2), all.slice(250, 1), all.slice(990, 2)];
            assert_eq!(found, concat_batches(&all.schema(), &wanted).unwrap());
            // Of the last row group alone, though the others are read as well.
            let selectors = vec![RowSelector::skip(950), RowSelector::select(3)];
            let found = read(file, &[0, 1, 2], Some(selectors.into())).await;
            assert_eq!(found, all.slice(950, 3));
        }
    }

    #[tokio::test]
    async fn columns_whose_pages_begin_elsewhere_are_fetched_by_what_they_have_in_common() {
        let rows = rows();
        let properties = (WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED);
        let mut input = Cursor::new(written(&rows, properties.0, properties.1, 90));
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load_async(&mut input, options).await;
        let metadata = Arc::clone(metadata.unwrap().metadata());
        let page_count = |leaf: usize| {
            metadata.offset_index().unwrap()[0][leaf]
                .page_locations()
                .len()
        };
        assert_ne!(page_count(1), page_count(2), "all pages are alike");
        let layout = Arc::new(PageLayout::try_new(&metadata, vec![1, 2]).unwrap());
        let one = RowSelection::from(vec![RowSelector::skip(207), RowSelector::select(1)]);
        let fetched = ColumnPages::fetch(&mut input, &layout, &[0], Some(&one));
        let (pages, selection) = fetched.await.unwrap();
        let row_count = pages.num_rows();
        assert!((1..400).contains(&row_count), "{row_count}");
        assert_eq!(selection.unwrap().row_count(), 1);
    }

    #[tokio::test]
    async fn what_was_not_fetched_or_is_damaged_is_an_error() {
        let column = FetchedBytes {
            pieces: vec![
                (10, Bytes::from_static(b"0123")),
                (50, Bytes::from_static(b"ab")),
            ],
        };
        assert_eq!(&column.get_bytes(12, 2).unwrap()[..], b"23");
        assert_eq!(&column.from(50).unwrap()[..], b"ab");
        assert!(column.get_bytes(12, 3).is_err());
        assert!(column.from(9).is_err());
        assert!(column.from(20).is_err());
    }
}
