//! How each column is encoded.
//!
//! Read [`writer_properties`]. The choices were made by measuring bytes and decoding time on
//! the synthetic workload; `tracelake info --columns` shows what each column takes.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{
    BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesBuilder,
    WriterVersion,
};
use parquet::schema::types::ColumnPath;

use crate::config::StorageConfig;
use crate::error::{Error, Result};
use crate::span::{column, storage_schema};

/// The footer key of the number of distinct traces of a file.
pub(super) const TRACE_COUNT_KEY: &str = "tracelake.trace_count";
/// The footer key of the version of the layout of columns.
pub(super) const VERSION_KEY: &str = "tracelake.version";
/// The version of the layout of columns.
pub(super) const VERSION: &str = "1";

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

/// The properties of a file of at most `trace_count` traces at a zstd level.
pub(super) fn writer_properties(
    config: &StorageConfig,
    zstd_level: i32,
    trace_count: u64,
) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(zstd_level).map_err(|error| {
        Error::invalid_input(format!(
            "the zstd level must be 1 to 22; level=`{zstd_level}`"
        ))
        .with_source(error)
    })?;
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
        .set_compression(Compression::ZSTD(level))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_row_count_limit(page_rows)
        .set_write_batch_size(page_rows)
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_column_index_truncate_length(Some(16))
        .set_statistics_truncate_length(Some(32))
        .set_sorting_columns(Some(sorting_columns()));
    let builder = DICTIONARY_COLUMNS.iter().fold(builder, |builder, name| {
        builder.set_column_dictionary_enabled(ColumnPath::from(*name), true)
    });
    let trace_count = trace_count.clamp(1, row_group_rows as u64);
    let trace_id = ColumnPath::from(column::TRACE_ID);
    let builder = builder
        .set_column_bloom_filter_enabled(trace_id.clone(), true)
        .set_column_bloom_filter_fpp(trace_id.clone(), rate)
        // An upper bound: the writer folds the filter to what the traces of a row group need.
        .set_column_bloom_filter_max_ndv(trace_id, trace_count);
    Ok(ids_and_numbers(builder).build())
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
    builder
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
