//! Counts the attributes of files that are to be merged, to choose those that get columns.
//!
//! Read [`choose_attributes`]. Of attributes that are columns already, footers tell how often
//! they occur; only what is still JSON is read.

use std::sync::Arc;

use arrow::array::AsArray;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::attribute_plan::{AttributeCounts, AttributePlan};
use super::file_reader::{name_file, open_rows};
use super::{LakeFile, Store};
use crate::config::StorageConfig;
use crate::error::Result;
use crate::span::{AttributeColumn, column};

/// The attributes that get columns in files of the rows of `inputs`.
pub(super) async fn choose_attributes(
    store: &Store,
    config: &StorageConfig,
    inputs: &[Arc<LakeFile>],
) -> Result<AttributePlan> {
    let row_count: u64 = inputs.iter().map(|file| file.row_count).sum();
    if config.attribute_columns == 0 || row_count < config.attribute_min_rows {
        return Ok(AttributePlan::default());
    }
    let mut counts = AttributeCounts::new(config);
    for file in inputs {
        let counted = count_file(store, file, &mut counts).await;
        counted.map_err(|error| name_file(error, file))?;
    }
    Ok(counts.choose(config, row_count))
}

async fn count_file(
    store: &Store,
    file: &LakeFile,
    counts: &mut AttributeCounts,
) -> std::result::Result<(), ParquetError> {
    let builder = open_rows(store, file).await?;
    count_columns(builder.metadata(), counts);
    let read = [column::ATTRIBUTES, column::ATTRIBUTES_ORDER];
    let indexes = read
        .iter()
        .filter_map(|name| builder.schema().index_of(name).ok());
    let mask = ProjectionMask::roots(builder.parquet_schema(), indexes);
    let mut rows = builder.with_projection(mask).build()?;
    while let Some(batch) = rows.try_next().await? {
        let texts = |name: &str| batch.column_by_name(name)?.as_string_view_opt();
        if let Some(objects) = texts(column::ATTRIBUTES) {
            counts.add_objects(objects.iter());
        }
        if let Some(order) = texts(column::ATTRIBUTES_ORDER)
            && order
                .iter()
                .flatten()
                .any(super::attribute_columns::is_verbatim)
        {
            counts.add_verbatim();
        }
    }
    Ok(())
}

/// Adds what the footer says of columns of attributes; of one that says nothing, that every
/// row may have a value.
fn count_columns(footer: &ParquetMetaData, counts: &mut AttributeCounts) {
    for row_group in footer.row_groups() {
        let row_count = u64::try_from(row_group.num_rows()).unwrap_or(0);
        for chunk in row_group.columns() {
            let [name] = chunk.column_path().parts() else {
                continue;
            };
            let Some(column) = AttributeColumn::parse(name) else {
                continue;
            };
            let nulls = chunk.statistics().and_then(|s| s.null_count_opt());
            counts.add_column(&column, row_count.saturating_sub(nulls.unwrap_or(0)));
        }
    }
}
