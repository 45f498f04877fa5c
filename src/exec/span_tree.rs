//! `span_tree`: every span with its place in the tree of its trace.
//!
//! Read [`SpanTreeRelation`]; what its columns hold is said at [`TreeColumn`].

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr::projection::ProjectionExpr;

use super::column_buffer::{id_column, passed_column, row_bytes};
use super::needs::Needs;
use super::range_rows::{RangeRows, TraceRows};
use super::relation::{Computed, RelationRows, TraceRelation};
use super::tree_column::{TreeColumn, TreeState};
use crate::span::logical_schema;
use crate::table::scan_column;

/// All columns of `spans`, then those of the tree.
#[derive(Debug, Clone, Default)]
pub struct SpanTreeRelation {
    /// Columns after those, which are computed where spans are read.
    computed: Vec<Computed>,
}

fn span_tree_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let spans = logical_schema();
        let mut fields: Vec<Arc<Field>> = spans.fields().iter().cloned().collect();
        fields.extend(TreeColumn::ALL.map(|column| Arc::new(column.field())));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

/// Where a column of the result comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    TraceId,
    SpanId,
    ParentSpanId,
    /// A column of `spans` as it is, by its index there.
    Passed(usize),
    Tree(TreeColumn),
    /// One of those that are computed where spans are read.
    Computed(usize),
}

impl Source {
    fn of(column: usize) -> Self {
        let spans = logical_schema();
        let Some(field) = spans.fields().get(column) else {
            let tree = column - spans.fields().len();
            return match TreeColumn::ALL.get(tree) {
                Some(tree) => Self::Tree(*tree),
                None => Self::Computed(tree - TreeColumn::ALL.len()),
            };
        };
        match field.name().as_str() {
            "trace_id" => Self::TraceId,
            "span_id" => Self::SpanId,
            "parent_span_id" => Self::ParentSpanId,
            _ => Self::Passed(column),
        }
    }
}

fn sources(projection: &[usize]) -> impl Iterator<Item = Source> + '_ {
    projection.iter().map(|column| Source::of(*column))
}

impl TraceRelation for SpanTreeRelation {
    fn name(&self) -> &'static str {
        "span_tree"
    }

    fn schema(&self) -> SchemaRef {
        let schema = span_tree_schema();
        if self.computed.is_empty() {
            return schema;
        }
        let computed = self.computed.iter().map(|computed| &computed.field);
        let fields = schema.fields().iter().chain(computed).cloned();
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn needs(&self, _projection: &[usize]) -> Needs {
        Needs::TREE
    }

    fn passed(&self, projection: &[usize]) -> Vec<ProjectionExpr> {
        let passed = sources(projection).filter_map(|source| match source {
            Source::Passed(index) => Some(scan_column(index)),
            Source::Computed(index) => Some(self.computed.get(index)?.expr.clone()),
            _ => None,
        });
        passed.collect()
    }

    fn with_computed(&self, computed: &[Computed]) -> Option<Arc<dyn TraceRelation>> {
        let mut relation = self.clone();
        relation.computed.extend_from_slice(computed);
        Some(Arc::new(relation))
    }

    fn has_span_columns(&self) -> bool {
        true
    }

    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows> {
        let sources: Vec<Source> = sources(projection).collect();
        let columns = sources.iter().filter_map(|source| match source {
            Source::Tree(column) => Some(*column),
            _ => None,
        });
        let schema = self.schema();
        let fields = projection
            .iter()
            .filter_map(|index| schema.fields().get(*index));
        let row_bytes = fields.map(|field| row_bytes(field.data_type()));
        Box::new(SpanTreeRows {
            row_bytes: row_bytes.sum::<usize>() + size_of::<u128>() + size_of::<u32>(),
            tree: TreeState::new(columns.collect()),
            sources,
            start_nanos,
            traces: Vec::new(),
            rows: Vec::new(),
        })
    }
}

/// The spans so far, in tree order trace by trace.
struct SpanTreeRows {
    sources: Vec<Source>,
    start_nanos: (i64, i64),
    tree: TreeState,
    traces: Vec<u128>,
    rows: Vec<u32>,
    row_bytes: usize,
}

impl RelationRows for SpanTreeRows {
    fn push(&mut self, trace: &TraceRows<'_>) {
        self.tree.build(&trace.columns);
        let (least, greatest) = self.start_nanos;
        for node in 0..self.tree.forest().len() {
            let row = self.tree.forest().row(node);
            let start = trace.columns.start(row);
            if start < least || start > greatest {
                continue;
            }
            self.traces.push(trace.trace);
            self.rows.push(trace.place(row));
            self.tree.push(&trace.columns, node);
        }
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn size(&self) -> usize {
        self.rows.len() * self.row_bytes + self.tree.text_bytes()
    }

    fn finish(&mut self, range: &RangeRows) -> Result<Vec<ArrayRef>> {
        let traces = std::mem::take(&mut self.traces);
        let rows = UInt32Array::from(std::mem::take(&mut self.rows));
        let mut tree = self.tree.finish(range).into_iter();
        let mut passed = 0;
        let mut columns = Vec::with_capacity(self.sources.len());
        let id = |ids: &[u64], row: u32| ids.get(row as usize).copied().filter(|id| *id != 0);
        for source in &self.sources {
            let column = match source {
                Source::TraceId => id_column(traces.iter().map(|trace| Some(trace.to_be_bytes()))),
                Source::SpanId => {
                    let ids = rows.values().iter();
                    id_column(ids.map(|row| id(&range.columns.span_id, *row).map(u64::to_be_bytes)))
                }
                Source::ParentSpanId => {
                    let ids = rows.values().iter();
                    id_column(
                        ids.map(|row| {
                            id(&range.columns.parent_span_id, *row).map(u64::to_be_bytes)
                        }),
                    )
                }
                Source::Passed(_) | Source::Computed(_) => {
                    passed += 1;
                    match range.passed(passed - 1) {
                        Some(column) => passed_column(column, &rows)?,
                        None => return exec_err!("a column of spans was not read"),
                    }
                }
                Source::Tree(column) => match tree.next() {
                    Some(built) => built,
                    None => return exec_err!("the column {column:?} was not computed"),
                },
            };
            columns.push(column);
        }
        Ok(columns)
    }
}
