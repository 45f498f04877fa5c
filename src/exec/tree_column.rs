//! The columns that a span has because of its place in its trace.
//!
//! Read [`TreeColumn`]. [`TreeState`] computes those that are asked for, and nothing else.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Array, Int64Builder, ListBuilder, StringViewBuilder,
};
use arrow::datatypes::{DataType, Field};

use super::column_buffer::id_column;
use super::range_rows::RangeRows;
use crate::span::IdKind;
use crate::trace::{
    CriticalPath, Findings, Forest, NONE, Placement, SelfTimes, TraceColumns, UNFINISHED, find,
    for_each_path,
};

/// A column of the tree.
///
/// ```text
///                tree_order  tree_end  depth  path   child_count  descendant_count
///   a                0          3        0    0           2              3
///   ├─ b             1          2        1    0/0         1              1
///   │  └─ c          2          2        2    0/0/0       0              0
///   └─ d             3          3        1    0/1         0              0
/// ```
///
/// `b` is below `a` exactly if `b.tree_order > a.tree_order AND b.tree_order <= a.tree_end`, for
/// `a` and `b` of one trace (nested sets; Joe Celko, *Trees and Hierarchies in SQL*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreeColumn {
    /// Steps from the top of its tree, 0 there.
    Depth,
    /// The places among siblings on the way down, as [`for_each_path`] writes them; NULL below
    /// [`MAX_PATH_DEPTH`](crate::trace::MAX_PATH_DEPTH).
    Path,
    /// The place in the trace's spans, depth first, from 0.
    TreeOrder,
    /// The `tree_order` of the last span below it, its own at a leaf.
    TreeEnd,
    /// Spans right below it.
    ChildCount,
    /// Spans below it.
    DescendantCount,
    /// The span at the top of its tree: a root, or the first that is known of a cut one.
    RootSpanId,
    /// The service of its parent; NULL at a top.
    ParentServiceName,
    /// The name of its parent; NULL at a top.
    ParentName,
    /// What of its duration no child covers; NULL where it never ended.
    SelfTimeNano,
    /// Whether it names a parent that is not in the trace.
    IsOrphan,
    /// Whether the trace waited for it at some moment.
    OnCriticalPath,
    /// What is odd about it.
    Findings,
}

impl TreeColumn {
    pub(super) const ALL: [Self; 13] = [
        Self::Depth,
        Self::Path,
        Self::TreeOrder,
        Self::TreeEnd,
        Self::ChildCount,
        Self::DescendantCount,
        Self::RootSpanId,
        Self::ParentServiceName,
        Self::ParentName,
        Self::SelfTimeNano,
        Self::IsOrphan,
        Self::OnCriticalPath,
        Self::Findings,
    ];

    pub(super) fn field(self) -> Field {
        use DataType::{Boolean, Int64, Utf8View};
        let (name, data_type, nullable) = match self {
            Self::Depth => ("depth", Int64, false),
            Self::Path => ("path", Utf8View, true),
            Self::TreeOrder => ("tree_order", Int64, false),
            Self::TreeEnd => ("tree_end", Int64, false),
            Self::ChildCount => ("child_count", Int64, false),
            Self::DescendantCount => ("descendant_count", Int64, false),
            Self::RootSpanId => {
                return IdKind::Span.mark(Field::new("root_span_id", Utf8View, false));
            }
            Self::ParentServiceName => ("parent_service_name", Utf8View, true),
            Self::ParentName => ("parent_name", Utf8View, true),
            Self::SelfTimeNano => ("self_time_nano", Int64, true),
            Self::IsOrphan => ("is_orphan", Boolean, false),
            Self::OnCriticalPath => ("on_critical_path", Boolean, false),
            Self::Findings => ("findings", DataType::List(Arc::new(finding_field())), false),
        };
        Field::new(name, data_type, nullable)
    }
}

fn finding_field() -> Field {
    Field::new("element", DataType::Utf8View, false)
}

/// The trees of traces one after another, and the columns asked for of their spans.
pub(super) struct TreeState {
    forest: Forest,
    self_times: SelfTimes,
    critical_path: CriticalPath,
    on_path: Vec<bool>,
    findings: Vec<Findings>,
    paths: String,
    path_ends: Vec<usize>,
    /// For each node the node at the top of its tree.
    tops: Vec<u32>,
    columns: Vec<(TreeColumn, Values)>,
    text_bytes: usize,
}

/// The values of a column so far.
enum Values {
    Numbers(Vec<i64>),
    Optional(Int64Builder),
    Flags(BooleanBuilder),
    Ids(Vec<u64>),
    Services(Vec<u32>),
    Names(Vec<u32>),
    Texts(StringViewBuilder),
    Lists(ListBuilder<StringViewBuilder>),
}

impl Values {
    fn new(column: TreeColumn) -> Self {
        match column {
            TreeColumn::Depth
            | TreeColumn::TreeOrder
            | TreeColumn::TreeEnd
            | TreeColumn::ChildCount
            | TreeColumn::DescendantCount => Self::Numbers(Vec::new()),
            TreeColumn::SelfTimeNano => Self::Optional(Int64Builder::new()),
            TreeColumn::IsOrphan | TreeColumn::OnCriticalPath => Self::Flags(BooleanBuilder::new()),
            TreeColumn::RootSpanId => Self::Ids(Vec::new()),
            TreeColumn::ParentServiceName => Self::Services(Vec::new()),
            TreeColumn::ParentName => Self::Names(Vec::new()),
            TreeColumn::Path => Self::Texts(StringViewBuilder::new()),
            TreeColumn::Findings => {
                let texts = StringViewBuilder::new().with_deduplicate_strings();
                Self::Lists(ListBuilder::new(texts).with_field(finding_field()))
            }
        }
    }

    fn finish(&mut self, range: &RangeRows) -> ArrayRef {
        match self {
            Self::Numbers(numbers) => Arc::new(Int64Array::from(std::mem::take(numbers))),
            Self::Optional(builder) => Arc::new(builder.finish()),
            Self::Flags(builder) => Arc::new(builder.finish()),
            Self::Ids(ids) => {
                let ids = std::mem::take(ids).into_iter();
                id_column(ids.map(|id| Some(id.to_be_bytes())))
            }
            Self::Services(numbers) => range.services.column(&std::mem::take(numbers)),
            Self::Names(numbers) => range.names.column(&std::mem::take(numbers)),
            Self::Texts(builder) => Arc::new(builder.finish()),
            Self::Lists(builder) => Arc::new(builder.finish()),
        }
    }
}

impl TreeState {
    /// Computes these columns.
    pub(super) fn new(columns: Vec<TreeColumn>) -> Self {
        let columns = columns.into_iter();
        Self {
            forest: Forest::default(),
            self_times: SelfTimes::default(),
            critical_path: CriticalPath::default(),
            on_path: Vec::new(),
            findings: Vec::new(),
            paths: String::new(),
            path_ends: Vec::new(),
            tops: Vec::new(),
            columns: columns
                .map(|column| (column, Values::new(column)))
                .collect(),
            text_bytes: 0,
        }
    }

    /// The trees of the trace at hand.
    pub(super) fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Bytes of texts so far.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    fn wants(&self, column: TreeColumn) -> bool {
        self.columns.iter().any(|(other, _)| *other == column)
    }

    /// Goes over to another trace.
    pub(super) fn build(&mut self, columns: &TraceColumns<'_>) {
        self.forest.rebuild(columns);
        let count = self.forest.len();
        if self.wants(TreeColumn::SelfTimeNano) {
            self.self_times.rebuild(columns, &self.forest);
        }
        if self.wants(TreeColumn::OnCriticalPath) {
            self.critical_path.rebuild(columns, &self.forest);
            self.on_path.clear();
            self.on_path.resize(count, false);
            for section in self.critical_path.sections() {
                self.on_path[section.node as usize] = true;
            }
        }
        if self.wants(TreeColumn::Findings) {
            find(columns, &self.forest, &mut self.findings);
        }
        if self.wants(TreeColumn::RootSpanId) {
            self.tops.clear();
            for (node, parent) in self.forest.parents().iter().enumerate() {
                let top = match *parent {
                    NONE => node as u32,
                    // Parents come before their children.
                    parent => self.tops[parent as usize],
                };
                self.tops.push(top);
            }
        }
        if self.wants(TreeColumn::Path) {
            self.build_paths();
        }
    }

    /// All paths of the trace one after another, each with where it ends.
    fn build_paths(&mut self) {
        self.paths.clear();
        self.path_ends.clear();
        for_each_path(&self.forest, |_, path| {
            self.paths.push_str(path.unwrap_or_default());
            self.path_ends.push(self.paths.len());
        });
    }

    /// Appends the values of a node of the trace at hand.
    pub(super) fn push(&mut self, columns: &TraceColumns<'_>, node: usize) {
        let forest = &self.forest;
        for (column, values) in &mut self.columns {
            match (values, *column) {
                (Values::Numbers(numbers), TreeColumn::Depth) => {
                    numbers.push(forest.depth(node) as i64);
                }
                (Values::Numbers(numbers), TreeColumn::TreeOrder) => numbers.push(node as i64),
                (Values::Numbers(numbers), TreeColumn::TreeEnd) => {
                    numbers.push(forest.subtree_end(node) as i64 - 1);
                }
                (Values::Numbers(numbers), TreeColumn::ChildCount) => {
                    numbers.push(i64::from(forest.child_counts()[node]));
                }
                (Values::Numbers(numbers), _) => {
                    numbers.push(forest.descendant_count(node) as i64);
                }
                (Values::Optional(builder), _) => {
                    let nano = self.self_times.nano()[node];
                    builder.append_option((nano != UNFINISHED).then_some(nano));
                }
                (Values::Flags(builder), TreeColumn::IsOrphan) => {
                    builder.append_value(forest.placement(node) == Placement::Orphan);
                }
                (Values::Flags(builder), _) => builder.append_value(self.on_path[node]),
                (Values::Ids(ids), _) => {
                    let top = forest.row(self.tops[node] as usize);
                    ids.push(columns.span_id.get(top).copied().unwrap_or(0));
                }
                (Values::Services(numbers), _) => {
                    let parent = forest.parent(node).map(|parent| forest.row(parent));
                    numbers.push(parent.map_or(NONE, |row| columns.service(row)));
                }
                (Values::Names(numbers), _) => {
                    let parent = forest.parent(node).map(|parent| forest.row(parent));
                    numbers.push(parent.map_or(NONE, |row| columns.name(row)));
                }
                (Values::Texts(builder), _) => {
                    let end = self.path_ends[node];
                    let start = node.checked_sub(1).map_or(0, |node| self.path_ends[node]);
                    self.text_bytes += end - start;
                    let path = &self.paths[start..end];
                    // No path is empty but that of a span too deep to have one.
                    builder.append_option((!path.is_empty()).then_some(path));
                }
                (Values::Lists(builder), _) => {
                    for name in self.findings[node].names() {
                        builder.values().append_value(name);
                    }
                    builder.append(true);
                }
            }
        }
    }

    /// The columns of all spans so far, of which none are then left.
    pub(super) fn finish(&mut self, range: &RangeRows) -> Vec<ArrayRef> {
        self.text_bytes = 0;
        let columns = self.columns.iter_mut();
        columns.map(|(_, values)| values.finish(range)).collect()
    }
}
