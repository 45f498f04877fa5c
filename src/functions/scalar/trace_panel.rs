//! `grafana_tags`, `grafana_logs`, `grafana_references`: the JSON that Grafana's trace panel shows.
//!
//! Read [`TracePanelFunc`]. The forms are those of `TraceKeyValuePair`, `TraceLog` and
//! `TraceSpanReference` (<https://grafana.com/docs/grafana/latest/explore/trace-integration/>).

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, StringViewBuilder, StructArray};
use arrow::datatypes::{DataType, TimestampNanosecondType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::json_lookup::text_views;
use crate::span::{members, write_json_string};

/// A column of Grafana's trace panel as JSON text; the empty list for NULL, which the panel does
/// not take.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TracePanelFunc {
    part: TracePanelPart,
    signature: Signature,
}

/// Which column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TracePanelPart {
    /// `[{"key", "value"}]` of attributes.
    Tags,
    /// `[{"timestamp", "name", "fields"}]` of events, times in milliseconds.
    Logs,
    /// `[{"traceID", "spanID", "tags"}]` of links.
    References,
}

impl TracePanelPart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tags, Self::Logs, Self::References];
}

impl TracePanelFunc {
    /// The function that makes one column.
    pub fn new(part: TracePanelPart) -> Self {
        Self {
            part,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for TracePanelFunc {
    fn name(&self) -> &str {
        ["grafana_tags", "grafana_logs", "grafana_references"][self.part as usize]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = &arguments.args[..] else {
            return exec_err!("{} takes one argument", self.name());
        };
        let value = value.to_array(arguments.number_rows)?;
        let texts = match self.part {
            TracePanelPart::Tags => tags(&value)?,
            TracePanelPart::Logs => {
                let Some(events) = Lists::of(&value, "events", ["name", "attributes", "time"])?
                else {
                    return Ok(ColumnarValue::Array(empty(value.len())));
                };
                let times = events.elements.column_by_name("time");
                let times = times.and_then(|all| all.as_primitive_opt::<TimestampNanosecondType>());
                let Some(times) = times else {
                    return exec_err!("the events of grafana_logs have a time in nanoseconds");
                };
                events.texts(|out, index, [name, attributes]| {
                    let millis = times.value(index) as f64 / 1e6;
                    let _ = write!(out, "{{\"timestamp\":{millis},\"name\":");
                    write_json_string(name.unwrap_or_default(), out);
                    out.push_str(",\"fields\":");
                    write_tags(attributes, out);
                })
            }
            TracePanelPart::References => {
                let names = ["trace_id", "span_id", "attributes"];
                let Some(links) = Lists::of(&value, "links", names)? else {
                    return Ok(ColumnarValue::Array(empty(value.len())));
                };
                let attributes = links.attributes("attributes")?;
                links.texts(|out, index, [trace_id, span_id]| {
                    out.push_str("{\"traceID\":");
                    write_json_string(trace_id.unwrap_or_default(), out);
                    out.push_str(",\"spanID\":");
                    write_json_string(span_id.unwrap_or_default(), out);
                    out.push_str(",\"tags\":");
                    let attributes = attributes.is_valid(index).then(|| attributes.value(index));
                    write_tags(attributes, out);
                })
            }
        };
        Ok(ColumnarValue::Array(texts))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<[Documentation; 3]> =
            LazyLock::new(|| TracePanelPart::ALL.map(documentation));
        DOCUMENTATION.get(self.part as usize)
    }
}

fn documentation(part: TracePanelPart) -> Documentation {
    let (description, syntax, example, argument) = match part {
        TracePanelPart::Tags => (
            "Attributes as Grafana's trace panel takes them.",
            "grafana_tags(attributes)",
            "select grafana_tags('{\"retries\":2}') as tags;\n\
             +-------------------------------+\n\
             | tags                          |\n\
             +-------------------------------+\n\
             | [{\"key\":\"retries\",\"value\":2}] |\n\
             +-------------------------------+",
            ("attributes", "A column of JSON objects."),
        ),
        TracePanelPart::Logs => (
            "Events as Grafana's trace panel takes them, with their times in milliseconds.",
            "grafana_logs(events)",
            "select grafana_logs(NULL) as logs;\n\
             +------+\n| logs |\n+------+\n| []   |\n+------+",
            ("events", "The column `events`."),
        ),
        TracePanelPart::References => (
            "Links as Grafana's trace panel takes them.",
            "grafana_references(links)",
            "select grafana_references(NULL) as refs;\n\
             +------+\n| refs |\n+------+\n| []   |\n+------+",
            ("links", "The column `links`."),
        ),
    };
    Documentation::builder(DOC_SECTION_OTHER, description, syntax)
        .with_sql_example(example)
        .with_argument(argument.0, argument.1)
        .build()
}

fn empty(row_count: usize) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(
        "[]", row_count,
    )))
}

fn tags(objects: &ArrayRef) -> Result<ArrayRef> {
    if objects.data_type().is_null() {
        return Ok(empty(objects.len()));
    }
    let objects = text_views(objects)?;
    let mut texts = StringViewBuilder::with_capacity(objects.len());
    let mut text = String::new();
    for object in &objects {
        text.clear();
        write_tags(object, &mut text);
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}

fn write_tags(object: Option<&str>, out: &mut String) {
    out.push('[');
    for (number, (key, value)) in members(object.unwrap_or_default()).enumerate() {
        let comma = if number > 0 { "," } else { "" };
        // Keys are quoted as they stand.
        let _ = write!(out, "{comma}{{\"key\":{key},\"value\":{value}}}");
    }
    out.push(']');
}

/// A column of lists of structs, of which the first two fields named are texts.
struct Lists {
    lists: arrow::array::ListArray,
    elements: StructArray,
    texts: [StringViewArray; 2],
}

impl Lists {
    /// `None` where the whole column is NULL.
    fn of(column: &ArrayRef, what: &str, fields: [&str; 3]) -> Result<Option<Self>> {
        if column.data_type().is_null() {
            return Ok(None);
        }
        let lists = column.as_list_opt::<i32>();
        let elements = lists.and_then(|lists| lists.values().as_struct_opt());
        let (Some(lists), Some(elements)) = (lists, elements) else {
            return exec_err!(
                "the column `{what}` is expected, not {}",
                column.data_type()
            );
        };
        let mut columns = Vec::new();
        for name in fields {
            match elements.column_by_name(name) {
                Some(column) => columns.push(column),
                None => return exec_err!("the column `{what}` has elements with `{name}`"),
            }
        }
        Ok(Some(Self {
            lists: lists.clone(),
            elements: elements.clone(),
            texts: [text_views(columns[0])?, text_views(columns[1])?],
        }))
    }

    fn attributes(&self, name: &str) -> Result<StringViewArray> {
        match self.elements.column_by_name(name) {
            Some(column) => text_views(column),
            None => exec_err!("the elements have `{name}`"),
        }
    }

    /// One JSON list a row; `write` writes an element but for its last brace.
    fn texts(&self, write: impl Fn(&mut String, usize, [Option<&str>; 2])) -> ArrayRef {
        let mut texts = StringViewBuilder::with_capacity(self.lists.len());
        let mut text = String::new();
        for row in 0..self.lists.len() {
            text.clear();
            text.push('[');
            let range = match self.lists.is_valid(row) {
                true => self.lists.value_offsets()[row]..self.lists.value_offsets()[row + 1],
                false => 0..0,
            };
            for (number, index) in range.enumerate() {
                if number > 0 {
                    text.push(',');
                }
                let index = usize::try_from(index).unwrap_or_default();
                let parts = self
                    .texts
                    .each_ref()
                    .map(|all| all.is_valid(index).then(|| all.value(index)));
                write(&mut text, index, parts);
                text.push('}');
            }
            text.push(']');
            texts.append_value(&text);
        }
        Arc::new(texts.finish())
    }
}
