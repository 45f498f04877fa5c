//! The columns of the lake's table as the log says them.
//!
//! Read [`table_columns`] and [`grown_schema`].

use std::collections::BTreeSet;

use arrow::datatypes::{DataType as ArrowType, Fields, TimeUnit};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{
    Action, ArrayType, DataType, MetadataExt, PrimitiveType, StructField, StructType,
};
use deltalake_core::table::state::DeltaTableState;

use super::LakeFile;
use super::layout::{BUCKET_COLUMN, DAY_COLUMN, HOUR_COLUMN};
use crate::error::{Error, Result};
use crate::span::{AttributeColumn, AttributeType, column, storage_schema};

/// Columns that the schema of the table names at the most. Other readers do not see those of
/// attributes that came later; this one finds them in the files.
const MAX_COLUMNS: usize = 2000;

/// The columns of attributes that the schema of the table names.
pub(super) fn attribute_columns(state: &DeltaTableState) -> BTreeSet<String> {
    let known = storage_schema();
    let schema = state.schema();
    let names = schema.fields().map(|field| field.name().to_string());
    let added = names.filter(|name| {
        known.index_of(name).is_err()
            && (AttributeColumn::parse(name).is_some() || name == column::ATTRIBUTES_ORDER)
    });
    added.collect()
}

/// The change of the table's schema that files to be added need, if any: columns of attributes
/// that no file had before. It is found anew for each attempt, so that of two writers that add
/// columns at once, the one that comes second adds to those of the first.
pub(super) fn grown_schema(
    state: &DeltaTableState,
    adds: &[LakeFile],
) -> std::result::Result<Option<Action>, DeltaTableError> {
    let schema = state.schema();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for file in adds {
        names.extend(file.attribute_columns.iter().map(String::as_str));
    }
    names.retain(|name| schema.field(name).is_none());
    // What is beyond is in the files, and found there.
    let room = MAX_COLUMNS.saturating_sub(schema.fields().count());
    let added = names.into_iter().take(room).map(|name| {
        let value_type = AttributeColumn::parse(name).map(|column| column.value_type);
        let data_type = value_type.unwrap_or(AttributeType::Text).data_type();
        let data_type = table_type(&data_type).unwrap_or(DataType::STRING);
        StructField::new(name, data_type, true)
    });
    let added: Vec<StructField> = added.collect();
    if added.is_empty() {
        return Ok(None);
    }
    let fields = schema.fields().cloned().chain(added);
    let schema = StructType::try_new(fields).map_err(DeltaTableError::from)?;
    let metadata = state.metadata().clone().with_schema(&schema)?;
    Ok(Some(Action::Metadata(metadata)))
}

/// The columns of the table: those of the files, then the partition columns.
///
/// All may be NULL, as the table format has it for columns that another program may add to.
pub(super) fn table_columns() -> Result<Vec<StructField>> {
    let mut columns = struct_fields(storage_schema().fields())?;
    for (name, data_type) in [
        (DAY_COLUMN, PrimitiveType::Date),
        (HOUR_COLUMN, PrimitiveType::Integer),
        (BUCKET_COLUMN, PrimitiveType::String),
    ] {
        columns.push(StructField::new(name, DataType::Primitive(data_type), true));
    }
    Ok(columns)
}

fn struct_fields(fields: &Fields) -> Result<Vec<StructField>> {
    fields
        .iter()
        .map(|field| {
            Ok(StructField::new(
                field.name(),
                table_type(field.data_type())?,
                true,
            ))
        })
        .collect()
}

fn table_type(data_type: &ArrowType) -> Result<DataType> {
    let primitive = match data_type {
        ArrowType::FixedSizeBinary(_) | ArrowType::Binary | ArrowType::BinaryView => {
            PrimitiveType::Binary
        }
        ArrowType::Utf8 | ArrowType::Utf8View => PrimitiveType::String,
        ArrowType::Int8 => PrimitiveType::Byte,
        ArrowType::Int32 => PrimitiveType::Integer,
        ArrowType::Int64 => PrimitiveType::Long,
        ArrowType::Float64 => PrimitiveType::Double,
        ArrowType::Boolean => PrimitiveType::Boolean,
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(_)) => PrimitiveType::Timestamp,
        ArrowType::List(element) => {
            let element = table_type(element.data_type())?;
            return Ok(DataType::Array(Box::new(ArrayType::new(element, true))));
        }
        ArrowType::Struct(fields) => {
            let fields = StructType::try_new(struct_fields(fields)?).map_err(|error| {
                Error::internal("a column has no table type").with_source(error)
            })?;
            return Ok(DataType::Struct(Box::new(fields)));
        }
        other => {
            return Err(Error::internal(format!(
                "a column has no table type; type=`{other}`"
            )));
        }
    };
    Ok(DataType::Primitive(primitive))
}
