//! `ancestors`, `descendants`, `children`, `parent` and `siblings` of a span.
//!
//! Read [`Relation`].

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::{Arguments, Parameter};
use super::span_columns::{span_rows, spans_with};
use super::trace_function::TraceFunction;
use super::trace_reader::TraceReader;
use crate::error::Result;
use crate::span::SpanId;
use crate::trace::{Forest, Placement, Trace, TraceColumns};

/// How spans are related to a span in the tree of their trace.
///
/// ```text
///   a               of d:  parent       c
///   ├─ b                   ancestors    c (distance 1), a (2)
///   └─ c                   siblings     e (2)
///      ├─ d                children     f (1)
///      │  └─ f             descendants  f (1)
///      └─ e
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// All spans above it, the nearest first.
    Ancestors,
    /// All spans below it, in tree order.
    Descendants,
    /// The spans right below it, in the order of their starts.
    Children,
    /// The span right above it.
    Parent,
    /// The other children of its parent, in the order of their starts. Orphans that name the
    /// same parent are siblings; roots are not.
    Siblings,
}

impl Relation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ancestors,
        Self::Descendants,
        Self::Children,
        Self::Parent,
        Self::Siblings,
    ];

    /// What SQL calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ancestors => "ancestors",
            Self::Descendants => "descendants",
            Self::Children => "children",
            Self::Parent => "parent",
            Self::Siblings => "siblings",
        }
    }

    /// The columns of [`rows`](Self::rows): those of `spans`, then `distance`.
    pub fn schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> =
            LazyLock::new(|| spans_with([Field::new("distance", DataType::Int64, false)]));
        Arc::clone(&SCHEMA)
    }

    /// The spans so related to a span of a trace, with the steps between them in the tree.
    ///
    /// Where different spans share the id, those related to any of them are there, each once and
    /// with its least distance.
    pub fn rows(self, trace: &Trace, span_id: SpanId) -> Result<RecordBatch> {
        let columns = trace.columns();
        let given = trace.nodes_of(span_id);
        // The least distance of each node.
        let mut distances: BTreeMap<usize, i64> = BTreeMap::new();
        for node in given {
            self.for_each(trace.forest(), &columns, node, |node, distance| {
                let least = distances.entry(node).or_insert(distance);
                *least = distance.min(*least);
            });
        }
        let mut found: Vec<(usize, i64)> = distances.into_iter().collect();
        if self == Self::Ancestors {
            found.sort_by_key(|(node, distance)| (*distance, *node));
        }
        let (nodes, distances): (Vec<usize>, Vec<i64>) = found.into_iter().unzip();
        let distances: ArrayRef = Arc::new(Int64Array::from(distances));
        span_rows(trace, &nodes, vec![distances], &Self::schema())
    }

    fn for_each(
        self,
        forest: &Forest,
        columns: &TraceColumns<'_>,
        node: usize,
        mut found: impl FnMut(usize, i64),
    ) {
        match self {
            Self::Ancestors => {
                for (above, distance) in forest.ancestors(node).zip(1..) {
                    found(above, distance);
                }
            }
            Self::Descendants => {
                let depth = forest.depths()[node];
                for below in forest.descendants(node) {
                    found(below, i64::from(forest.depths()[below] - depth));
                }
            }
            Self::Children => forest.children(node).for_each(|child| found(child, 1)),
            Self::Parent => forest
                .parent(node)
                .into_iter()
                .for_each(|node| found(node, 1)),
            Self::Siblings => {
                let named = |node: usize| columns.parent_span_id.get(forest.row(node)).copied();
                for sibling in forest.siblings(node) {
                    let together = match forest.placement(node) {
                        Placement::Child => true,
                        Placement::Orphan => {
                            forest.placement(sibling) == Placement::Orphan
                                && named(sibling) == named(node)
                        }
                        Placement::Root | Placement::CycleBroken => false,
                    };
                    if together {
                        found(sibling, 2);
                    }
                }
            }
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Ancestors => {
                "The spans above a span, the nearest first: all columns of `spans`, and the \
                 `distance` in steps."
            }
            Self::Descendants => {
                "The spans below a span, in tree order: all columns of `spans`, and the \
                 `distance` in steps."
            }
            Self::Children => {
                "The spans right below a span, in the order of their starts: all columns of \
                 `spans`, and the `distance`, which is 1."
            }
            Self::Parent => {
                "The span right above a span: all columns of `spans`, and the `distance`, which \
                 is 1. A root and an orphan have none."
            }
            Self::Siblings => {
                "The other spans with the parent of a span, in the order of their starts: all \
                 columns of `spans`, and the `distance`, which is 2."
            }
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Ancestors => {
                "select distance, service_name, name\n\
                 from ancestors('5b1e7f00c0ffee00a11ce00000000001', 'a100000000000004');\n\
                 +----------+--------------+-------------------+\n\
                 | distance | service_name | name              |\n\
                 +----------+--------------+-------------------+\n\
                 | 1        | catalog      | GET /books/{isbn} |\n\
                 | 2        | library      | GET               |\n\
                 | 3        | library      | POST /loans       |\n\
                 +----------+--------------+-------------------+"
            }
            Self::Descendants => {
                "select distance, service_name, name\n\
                 from descendants('5b1e7f00c0ffee00a11ce00000000001', 'a100000000000001');\n\
                 +----------+--------------+-------------------+\n\
                 | distance | service_name | name              |\n\
                 +----------+--------------+-------------------+\n\
                 | 1        | library      | GET               |\n\
                 | 2        | catalog      | GET /books/{isbn} |\n\
                 | 3        | catalog      | SELECT books      |\n\
                 | 1        | library      | send loans        |\n\
                 +----------+--------------+-------------------+"
            }
            Self::Children => {
                "select service_name, name\n\
                 from children('5b1e7f00c0ffee00a11ce00000000001', 'a100000000000001');\n\
                 +--------------+------------+\n\
                 | service_name | name       |\n\
                 +--------------+------------+\n\
                 | library      | GET        |\n\
                 | library      | send loans |\n\
                 +--------------+------------+"
            }
            Self::Parent => {
                "select service_name, name\n\
                 from parent('5b1e7f00c0ffee00a11ce00000000001', 'a100000000000004');\n\
                 +--------------+-------------------+\n\
                 | service_name | name              |\n\
                 +--------------+-------------------+\n\
                 | catalog      | GET /books/{isbn} |\n\
                 +--------------+-------------------+"
            }
            Self::Siblings => {
                "select service_name, name\n\
                 from siblings('5b1e7f00c0ffee00a11ce00000000001', 'a100000000000002');\n\
                 +--------------+------------+\n\
                 | service_name | name       |\n\
                 +--------------+------------+\n\
                 | library      | send loans |\n\
                 +--------------+------------+"
            }
        }
    }
}

/// A [`Relation`] as a table function.
#[derive(Debug)]
pub(super) struct RelativesFunc {
    relation: Relation,
}

impl RelativesFunc {
    pub(super) fn new(relation: Relation) -> Self {
        Self { relation }
    }
}

#[async_trait]
impl TraceFunction for RelativesFunc {
    fn name(&self) -> &'static str {
        self.relation.name()
    }

    fn documentation(&self) -> Documentation {
        let name = self.relation.name();
        let syntax = format!("{name}(trace_id, span_id)");
        Documentation::builder(DocSection::default(), self.relation.description(), syntax)
            .with_sql_example(self.relation.example())
            .with_argument("trace_id", "The trace's id: 32 hex digits, or 16.")
            .with_argument("span_id", "The span's id: 16 hex digits.")
            .build()
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter::Trace, Parameter::Span]
    }

    fn schema(&self) -> SchemaRef {
        Relation::schema()
    }

    async fn rows(&self, reader: &dyn TraceReader, arguments: &Arguments) -> Result<RecordBatch> {
        let traces = reader.traces(&arguments.trace_ids).await?;
        match (traces.into_iter().flatten().next(), arguments.span_id) {
            (Some(trace), Some(span_id)) => self.relation.rows(&trace, span_id),
            _ => Ok(RecordBatch::new_empty(self.schema())),
        }
    }
}
