//! `critical_paths`: the sections of the critical path of every trace.
//!
//! Read [`CriticalPathsRelation`]; what the path is is said at
//! [`CriticalPath`](crate::trace::CriticalPath).

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr::projection::ProjectionExpr;

use super::column_buffer::{id_column, time_column};
use super::needs::Needs;
use super::range_rows::{RangeRows, TraceRows};
use super::relation::{RelationRows, TraceRelation};
use crate::span::IdKind;
use crate::trace::{CriticalPath, Forest, PathSection};

/// For each moment of a trace the span it waited for: a row a section.
///
/// A trace of several trees has a path for each; `root_span_id` tells them apart, and `share` is
/// the part that a section has of its tree's path.
#[derive(Debug, Clone, Copy, Default)]
pub struct CriticalPathsRelation;

const COLUMNS: [&str; 10] = [
    "trace_id",
    "root_span_id",
    "section_order",
    "span_id",
    "service_name",
    "name",
    "start_time",
    "end_time",
    "duration_nano",
    "share",
];

fn critical_paths_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields = COLUMNS.map(|name| match name {
            "trace_id" => IdKind::Trace.mark(Field::new(name, DataType::Utf8View, false)),
            "root_span_id" | "span_id" => {
                IdKind::Span.mark(Field::new(name, DataType::Utf8View, false))
            }
            "service_name" => Field::new(name, DataType::Utf8View, true),
            "name" => Field::new(name, DataType::Utf8View, false),
            "start_time" | "end_time" => {
                let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
                Field::new(name, time, false)
            }
            "share" => Field::new(name, DataType::Float64, false),
            _ => Field::new(name, DataType::Int64, false),
        });
        Arc::new(Schema::new(fields.to_vec()))
    });
    Arc::clone(&SCHEMA)
}

impl TraceRelation for CriticalPathsRelation {
    fn name(&self) -> &'static str {
        "critical_paths"
    }

    fn schema(&self) -> SchemaRef {
        critical_paths_schema()
    }

    fn needs(&self, _projection: &[usize]) -> Needs {
        Needs::TREE
    }

    fn passed(&self, _projection: &[usize]) -> Vec<ProjectionExpr> {
        Vec::new()
    }

    /// A section also starts where a child ends.
    fn starts_with_spans(&self) -> bool {
        false
    }

    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows> {
        Box::new(CriticalPathRows {
            projection: projection.to_vec(),
            start_nanos,
            forest: Forest::default(),
            path: CriticalPath::default(),
            sections: Vec::new(),
        })
    }
}

/// The sections so far.
struct CriticalPathRows {
    projection: Vec<usize>,
    start_nanos: (i64, i64),
    forest: Forest,
    path: CriticalPath,
    sections: Vec<SectionRow>,
}

#[derive(Debug, Clone, Copy)]
struct SectionRow {
    trace: u128,
    root_span_id: u64,
    span_id: u64,
    order: i64,
    service: u32,
    name: u32,
    start: i64,
    end: i64,
    share: f64,
}

impl RelationRows for CriticalPathRows {
    fn push(&mut self, trace: &TraceRows<'_>) {
        let columns = &trace.columns;
        self.forest.rebuild(columns);
        self.path.rebuild(columns, &self.forest);
        let (least, greatest) = self.start_nanos;
        let id = |node: u32| {
            let row = self.forest.row(node as usize);
            columns.span_id.get(row).copied().unwrap_or(0)
        };
        let trees = self.path.sections().chunk_by(|a, b| a.top == b.top);
        for path in trees {
            let total: i64 = path.iter().map(PathSection::duration_nano).sum();
            for (order, section) in path.iter().enumerate() {
                if section.start < least || section.start > greatest {
                    continue;
                }
                let row = self.forest.row(section.node as usize);
                self.sections.push(SectionRow {
                    trace: trace.trace,
                    root_span_id: id(section.top),
                    span_id: id(section.node),
                    order: order as i64,
                    service: columns.service(row),
                    name: columns.name(row),
                    start: section.start,
                    end: section.end,
                    share: section.duration_nano() as f64 / (total as f64).max(1.0),
                });
            }
        }
    }

    fn len(&self) -> usize {
        self.sections.len()
    }

    fn size(&self) -> usize {
        // The rows, and the columns they become.
        self.sections.len() * 3 * size_of::<SectionRow>()
    }

    fn finish(&mut self, range: &RangeRows) -> Result<Vec<ArrayRef>> {
        let sections = std::mem::take(&mut self.sections);
        let numbers = |number: fn(&SectionRow) -> i64| sections.iter().map(number);
        let ints = |number: fn(&SectionRow) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(numbers(number)))
        };
        let columns = self.projection.iter().map(|index| {
            let name = COLUMNS.get(*index).copied().unwrap_or_default();
            Ok(match name {
                "trace_id" => id_column(sections.iter().map(|row| Some(row.trace.to_be_bytes()))),
                "root_span_id" => id_column(
                    sections
                        .iter()
                        .map(|row| Some(row.root_span_id.to_be_bytes())),
                ),
                "span_id" => id_column(sections.iter().map(|row| Some(row.span_id.to_be_bytes()))),
                "section_order" => ints(|row| row.order),
                "service_name" => {
                    let services: Vec<u32> = sections.iter().map(|row| row.service).collect();
                    range.services.column(&services)
                }
                "name" => {
                    let names: Vec<u32> = sections.iter().map(|row| row.name).collect();
                    range.names.column(&names)
                }
                "start_time" => time_column(numbers(|row| row.start).collect()),
                "end_time" => time_column(numbers(|row| row.end).collect()),
                "duration_nano" => ints(|row| row.end.saturating_sub(row.start)),
                "share" => {
                    let shares = sections.iter().map(|row| row.share);
                    Arc::new(Float64Array::from_iter_values(shares))
                }
                other => return exec_err!("critical_paths has no column `{other}`"),
            })
        });
        columns.collect()
    }
}
