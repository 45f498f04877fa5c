//! How each column is encoded.
//!
//! Read [`writer_properties`]. The choices were made by measuring bytes and decoding time on
//! the synthetic workload; `tracelake info --columns` shows what each column takes.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{
    BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesBuilder,
    WriterVersion,
};
use parquet::schema::types::ColumnPath;

use crate::config::{PageCompression, StorageConfig};
use crate::error::{Error, Result};
use crate::span::{AttributeColumn, AttributeType, column, storage_schema};

/// The footer key of the number of distinct traces of a file.
pub(super) const TRACE_COUNT_KEY: &str = "tracelake.trace_count";
/// The footer key of the version of the layout of columns.
pub(super) const VERSION_KEY: &str = "tracelake.version";
/// The version of the layout of columns.
pub(super) const VERSION: &str = "2";

/// Columns of few distinct values that come in runs or repeat at once. All texts that a
/// producer sets once are here: a dictionary makes them a few bits a row.
const DICTIONARY_COLUMNS: [&str; 19] = [
    column::TRACE_STATE,
    column::FLAGS,
    column::NAME,
    column::KIND,
    column::STATUS_CODE,
    column::STATUS_MESSAGE,
    column::SERVICE_NAME,
    column::SERVICE_NAMESPACE,
    column::SERVICE_VERSION,
    column::SERVICE_INSTANCE_ID,
    column::DEPLOYMENT_ENVIRONMENT,
    column::RESOURCE_ATTRIBUTES,
    column::SCOPE_NAME,
    column::SCOPE_VERSION,
    column::SCOPE_ATTRIBUTES,
    column::SCHEMA_URL,
    column::RESOURCE_SCHEMA_URL,
    column::INGESTED_AT,
    column::PARENT_OFFSET,
];

/// Columns that are nearly always NULL or the same number.
const COUNT_COLUMNS: [&str; 5] = [
    column::DROPPED_ATTRIBUTES_COUNT,
    column::DROPPED_EVENTS_COUNT,
    column::DROPPED_LINKS_COUNT,
    column::RESOURCE_DROPPED_ATTRIBUTES_COUNT,
    column::SCOPE_DROPPED_ATTRIBUTES_COUNT,
];

/// The most rows a dictionary is chosen by.
pub(super) const SAMPLE_ROWS: usize = 8192;
/// How often a value has to be repeated in a row group to be better off in a dictionary.
const DICTIONARY_REPEATS: f64 = 3.0;
/// What a dictionary may take, in bytes: whoever looks up a trace decodes all of it for a few rows.
const DICTIONARY_BYTES: f64 = 65_536.0;
/// What a dictionary of texts may take without being worth compressing.
const SMALL_DICTIONARY_BYTES: f64 = 32_768.0;

/// The properties of a file of at most `trace_count` traces, of which `sample` shows the first rows
/// and `row_count` says how many there are at the most.
pub(super) fn writer_properties(
    config: &StorageConfig,
    compression: PageCompression,
    (trace_count, row_count): (u64, u64),
    sample: &RecordBatch,
) -> Result<WriterProperties> {
    let compression = match compression {
        PageCompression::Lz4 => Compression::LZ4_RAW,
        PageCompression::Zstd(level) => {
            let known = ZstdLevel::try_new(level).map_err(|error| {
                let message = format!("the zstd level must be 1 to 22; level=`{level}`");
                Error::invalid_input(message).with_source(error)
            })?;
            Compression::ZSTD(known)
        }
    };
    let rate = config.bloom_false_positive_rate;
    if !(rate > 0.0 && rate < 1.0) {
        return Err(Error::invalid_input(format!(
            "the false positive rate of trace filters must lie between 0 and 1; rate=`{rate}`"
        )));
    }
    let page_rows = config.page_rows.max(1);
    let row_group_rows = config.row_group_rows.max(1);
    let builder = WriterProperties::builder()
        .set_created_by(format!("tracelake version {}", env!("CARGO_PKG_VERSION")))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_row_count_limit(page_rows)
        .set_write_batch_size(page_rows)
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_column_index_truncate_length(Some(16))
        .set_statistics_truncate_length(Some(32))
        .set_sorting_columns(Some(sorting_columns()));
    let dictionaries = DICTIONARY_COLUMNS.iter().chain(&COUNT_COLUMNS);
    let builder = dictionaries.fold(builder, |builder, name| {
        builder.set_column_dictionary_enabled(ColumnPath::from(*name), true)
    });
    let builder = small_columns(builder, sample);
    let trace_count = trace_count.clamp(1, row_group_rows as u64);
    let trace_id = ColumnPath::from(column::TRACE_ID);
    let builder = builder
        .set_column_bloom_filter_enabled(trace_id.clone(), true)
        .set_column_bloom_filter_fpp(trace_id.clone(), rate)
        // An upper bound: the writer folds the filter to what the traces of a row group need.
        .set_column_bloom_filter_max_ndv(trace_id, trace_count);
    let row_group_rows = row_count.min(row_group_rows as u64);
    let builder = attribute_columns(ids_and_numbers(builder), sample, row_group_rows);
    Ok(builder.build())
}

fn ids_and_numbers(builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    let path = |name: &str| ColumnPath::from(name);
    let nested = |list: &str, name: &str| {
        ColumnPath::new([list, "list", "element", name].map(str::to_owned).to_vec())
    };
    let builder = [
        // Random bytes: nothing to gain, and late materialization reads them directly.
        column::SPAN_ID,
        column::PARENT_SPAN_ID,
        // Packed to the bits they need: compressing saves a twentieth and doubles the time of
        // reading them, which most queries do.
        column::START_TIME_UNIX_NANO,
        column::DURATION_NANO,
    ]
    .into_iter()
    .fold(builder, |builder, name| {
        builder.set_column_compression(path(name), Compression::UNCOMPRESSED)
    });
    let builder = [
        column::TRACE_ID,
        column::START_TIME_UNIX_NANO,
        column::DURATION_NANO,
        column::STATUS_CODE,
        column::KIND,
        column::SERVICE_NAME,
        column::NAME,
    ]
    .into_iter()
    // Columns that are searched have statistics of each page.
    .fold(builder, |builder, name| {
        builder.set_column_statistics_enabled(path(name), EnabledStatistics::Page)
    });
    [
        (column::EVENTS, "time_unix_nano"),
        (column::EVENTS, "name"),
        (column::EVENTS, "dropped_attributes_count"),
        (column::LINKS, "trace_id"),
        (column::LINKS, "span_id"),
        (column::LINKS, "flags"),
        (column::LINKS, "dropped_attributes_count"),
    ]
    .into_iter()
    .fold(builder, |builder, (list, name)| {
        builder.set_column_compression(nested(list, name), Compression::UNCOMPRESSED)
    })
    // Trace ids stay plain: DELTA_BYTE_ARRAY of fixed length is not read by Polars.
    .set_column_encoding(
        path(column::START_TIME_UNIX_NANO),
        Encoding::DELTA_BINARY_PACKED,
    )
    .set_column_encoding(path(column::DURATION_NANO), Encoding::DELTA_BINARY_PACKED)
    .set_column_encoding(
        nested(column::EVENTS, "time_unix_nano"),
        Encoding::DELTA_BINARY_PACKED,
    )
    .set_column_dictionary_enabled(nested(column::EVENTS, "name"), true)
    .set_column_dictionary_enabled(nested(column::EVENTS, "dropped_attributes_count"), true)
    .set_column_dictionary_enabled(nested(column::LINKS, "flags"), true)
    .set_column_dictionary_enabled(nested(column::LINKS, "dropped_attributes_count"), true)
}

/// Columns of which little is gained by compression: numbers of a small dictionary are packed to
/// the bits they need. A decompressor takes longer to set up than a page of them to read, and
/// whoever looks up a trace reads a page of every column.
fn small_columns(
    mut builder: WriterPropertiesBuilder,
    sample: &RecordBatch,
) -> WriterPropertiesBuilder {
    let numbers = [
        column::FLAGS,
        column::KIND,
        column::STATUS_CODE,
        column::INGESTED_AT,
    ];
    for name in numbers.iter().chain(&COUNT_COLUMNS) {
        builder =
            builder.set_column_compression(ColumnPath::from(*name), Compression::UNCOMPRESSED);
    }
    for name in DICTIONARY_COLUMNS {
        let texts = sample.column_by_name(name);
        let Some(texts) = texts.and_then(|texts| texts.as_string_view_opt()) else {
            continue;
        };
        let mut distinct = HashSet::new();
        let bytes: usize = texts
            .iter()
            .flatten()
            .filter(|text| distinct.insert(*text))
            .map(str::len)
            .sum();
        if (bytes as f64) < SMALL_DICTIONARY_BYTES {
            builder =
                builder.set_column_compression(ColumnPath::from(name), Compression::UNCOMPRESSED);
        }
    }
    builder
}

fn attribute_columns(
    mut builder: WriterPropertiesBuilder,
    sample: &RecordBatch,
    row_group_rows: u64,
) -> WriterPropertiesBuilder {
    let rows = sample.num_rows().max(1) as f64;
    for (field, values) in sample.schema_ref().fields().iter().zip(sample.columns()) {
        let path = ColumnPath::from(field.name().as_str());
        if field.name() == column::ATTRIBUTES_ORDER {
            builder = builder
                .set_column_dictionary_enabled(path.clone(), true)
                .set_column_compression(path, Compression::UNCOMPRESSED);
            continue;
        }
        let Some(column) = AttributeColumn::parse(field.name()) else {
            continue;
        };
        let value_bytes = match column.value_type {
            AttributeType::Text | AttributeType::Json => {
                let bytes: usize = values.as_string_view().lengths().map(|l| l as usize).sum();
                4.0 + bytes as f64 / (values.len() - values.null_count()).max(1) as f64
            }
            AttributeType::Int | AttributeType::Double => 8.0,
            AttributeType::Bool => {
                builder = builder.set_column_compression(path, Compression::UNCOMPRESSED);
                continue;
            }
        };
        let repeats = Repeats::of(values.as_ref(), column.value_type);
        let count = repeats.count as f64 * row_group_rows as f64 / rows;
        let distinct = repeats.distinct_among(count);
        let is_packed = if distinct * DICTIONARY_REPEATS <= count
            && distinct * value_bytes <= DICTIONARY_BYTES
        {
            builder = builder.set_column_dictionary_enabled(path.clone(), true);
            distinct * value_bytes <= SMALL_DICTIONARY_BYTES
        } else if column.value_type == AttributeType::Int {
            builder = builder.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            true
        } else {
            false
        };
        if is_packed {
            builder = builder.set_column_compression(path, Compression::UNCOMPRESSED);
        }
    }
    builder
}

/// How often the values of a sample are the same.
struct Repeats {
    /// Values, those that equal the one before them not counted: they cost next to nothing.
    count: usize,
    distinct: usize,
    once: usize,
    twice: usize,
}

impl Repeats {
    fn of(values: &dyn Array, value_type: AttributeType) -> Self {
        let hasher = RandomState::new();
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let mut count = 0;
        let mut before = None;
        let mut add = |hash: u64| {
            if before.replace(hash) != Some(hash) {
                count += 1;
                *counts.entry(hash).or_default() += 1;
            }
        };
        fn hash(hasher: &RandomState, value: impl Hash) -> u64 {
            hasher.hash_one(value)
        }
        match value_type {
            AttributeType::Text | AttributeType::Json => {
                let values = values.as_string_view();
                values
                    .iter()
                    .flatten()
                    .for_each(|text| add(hash(&hasher, text)));
            }
            AttributeType::Int => {
                let values = values.as_primitive::<Int64Type>();
                values
                    .iter()
                    .flatten()
                    .for_each(|number| add(hash(&hasher, number)));
            }
            AttributeType::Double => {
                let values = values.as_primitive::<Float64Type>();
                let bits = values.iter().flatten().map(f64::to_bits);
                bits.for_each(|bits| add(hash(&hasher, bits)));
            }
            AttributeType::Bool => {}
        }
        let times = |times: usize| counts.values().filter(|count| **count == times).count();
        Self {
            count,
            distinct: counts.len(),
            once: times(1),
            twice: times(2),
        }
    }

    /// About how many distinct values there are among `count`.
    fn distinct_among(&self, count: f64) -> f64 {
        // The estimator of Chao (1984) of how many there are at all, from those seen once and
        // twice.
        let (once, twice) = (self.once as f64, self.twice as f64);
        let unseen = once * (once - 1.0).max(0.0) / (2.0 * (twice + 1.0));
        let all = (self.distinct as f64 + unseen).max(1.0);
        if self.once == self.count && self.count > 1 {
            return count;
        }
        all * (1.0 - (-count / all).exp())
    }
}

fn sorting_columns() -> Vec<SortingColumn> {
    let schema = storage_schema();
    let names = [
        column::TRACE_ID,
        column::START_TIME_UNIX_NANO,
        column::SPAN_ID,
    ];
    let indexes = names.iter().filter_map(|name| schema.index_of(name).ok());
    indexes
        // The sorted columns stand before the first nested one, so that fields and leaves count
        // alike.
        .filter_map(|index| i32::try_from(index).ok())
        .map(|column_idx| SortingColumn {
            column_idx,
            descending: false,
            nulls_first: false,
        })
        .collect()
}
