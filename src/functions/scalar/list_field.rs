//! `list_field`: one field of every element of a list of structs.
//!
//! Read [`ListFieldFunc`].

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_ARRAY;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};

/// `list_field(list, name)`: the list of the elements' fields of that name, in their order; NULL
/// for no list. The name is a constant.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ListFieldFunc {
    signature: Signature,
}

impl Default for ListFieldFunc {
    fn default() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for ListFieldFunc {
    fn name(&self) -> &str {
        "list_field"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        internal_err!("the type of list_field depends on the name of the field")
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let [list, _] = arguments.arg_fields else {
            return exec_err!("list_field takes a list and the name of a field");
        };
        let name = arguments.scalar_arguments.get(1).copied().flatten();
        let Some(Some(name)) = name.and_then(|name| name.try_as_str()) else {
            return exec_err!("the name of the field is a constant text");
        };
        let (_, item) = field(list.data_type(), name)?;
        Ok(Arc::new(Field::new(
            self.name(),
            DataType::List(item),
            true,
        )))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [list, ColumnarValue::Scalar(name)] = &arguments.args[..] else {
            return exec_err!("list_field takes a list and the constant name of a field");
        };
        let list = list.to_array(arguments.number_rows)?;
        let name = name.try_as_str().flatten().unwrap_or_default();
        let (index, item) = field(list.data_type(), name)?;
        let list = list.as_list::<i32>();
        let values = Arc::clone(list.values().as_struct().column(index));
        let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
        let list = ListArray::try_new(item, offsets, values, nulls)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                DOC_SECTION_ARRAY,
                "The list of what the elements of a list of structs have in one field.",
                "list_field(list, name)",
            )
            .with_sql_example(
                "select list_field([named_struct('name', 'retry'), named_struct('name', 'done')], 'name') as names;\n\
                 +---------------+\n\
                 | names         |\n\
                 +---------------+\n\
                 | [retry, done] |\n\
                 +---------------+",
            )
            .with_argument("list", "A list of structs, such as `events` and `links`.")
            .with_argument("name", "The name of a field, a constant.")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}

/// Where a field stands in the elements, and what items a list of it has.
fn field(list: &DataType, name: &str) -> Result<(usize, FieldRef)> {
    let DataType::List(element) = list else {
        return exec_err!("list_field takes a list of structs, not {list}");
    };
    let DataType::Struct(fields) = element.data_type() else {
        return exec_err!("list_field takes a list of structs, not {list}");
    };
    match fields.find(name) {
        // A list may have elements that are NULL, and so are their fields.
        Some((index, field)) => {
            let item = Field::new_list_field(field.data_type().clone(), true);
            Ok((
                index,
                Arc::new(item.with_metadata(field.metadata().clone())),
            ))
        }
        None => exec_err!("the elements have no field `{name}`; there are {fields:?}"),
    }
}
