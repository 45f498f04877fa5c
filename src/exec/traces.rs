//! `traces`: a row a trace.
//!
//! Read [`TracesRelation`].

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr::projection::ProjectionExpr;

use super::column_buffer::{id_column, micro_time_column, time_column};
use super::needs::Needs;
use super::range_rows::{NEVER_INGESTED, RangeRows, TraceRows};
use super::relation::{RelationRows, TraceRelation};
use crate::span::IdKind;
use crate::trace::{Forest, NO_OFFSET, NONE, ServiceSet, TraceColumns, TraceSummary};

/// What is known of each trace as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracesRelation;

const COLUMNS: [&str; 14] = [
    "trace_id",
    "root_service",
    "root_name",
    "start_time",
    "end_time",
    "duration_nano",
    "duration_ms",
    "span_count",
    "service_count",
    "error_count",
    "has_root",
    "orphan_count",
    "first_ingested_at",
    "last_ingested_at",
];

fn traces_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let nano = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let micro = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = COLUMNS.map(|name| {
            let (data_type, nullable) = match name {
                "trace_id" => {
                    return IdKind::Trace.mark(Field::new(name, DataType::Utf8View, false));
                }
                "root_service" | "root_name" => (DataType::Utf8View, true),
                "start_time" | "end_time" => (nano(), false),
                "duration_ms" => (DataType::Float64, false),
                "has_root" => (DataType::Boolean, false),
                "first_ingested_at" | "last_ingested_at" => (micro(), true),
                _ => (DataType::Int64, false),
            };
            Field::new(name, data_type, nullable)
        });
        Arc::new(Schema::new(fields.to_vec()))
    });
    Arc::clone(&SCHEMA)
}

impl TraceRelation for TracesRelation {
    fn name(&self) -> &'static str {
        "traces"
    }

    fn schema(&self) -> SchemaRef {
        traces_schema()
    }

    fn needs(&self, projection: &[usize]) -> Needs {
        let needs = |column: &usize| match COLUMNS.get(*column) {
            Some(&"error_count") => Needs::STATUS,
            Some(&("first_ingested_at" | "last_ingested_at")) => Needs::INGESTED_AT,
            _ => Needs::default(),
        };
        projection.iter().map(needs).fold(Needs::TREE, Needs::and)
    }

    fn passed(&self, _projection: &[usize]) -> Vec<ProjectionExpr> {
        Vec::new()
    }

    fn quick_needs(&self, projection: &[usize], _any_start: bool) -> Option<Needs> {
        let needs = |column: &usize| match COLUMNS.get(*column) {
            Some(&"end_time" | &"duration_nano" | &"duration_ms") => Needs::DURATION,
            Some(&"root_service") => Needs::SERVICE.and(Needs::PARENT_SPAN_ID),
            Some(&"root_name") => Needs::NAME.and(Needs::PARENT_SPAN_ID),
            Some(&"service_count") => Needs::SERVICE,
            Some(&"error_count") => Needs::STATUS,
            Some(&("has_root" | "orphan_count")) => Needs::PARENT_SPAN_ID,
            Some(&("first_ingested_at" | "last_ingested_at")) => Needs::INGESTED_AT,
            _ => Needs::default(),
        };
        let least = Needs::SPAN_ID.and(Needs::PARENT_OFFSET).and(Needs::START);
        Some(projection.iter().map(needs).fold(least, Needs::and))
    }

    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows> {
        Box::new(TracesRows {
            projection: projection.to_vec(),
            start_nanos,
            forest: Forest::default(),
            services: ServiceSet::default(),
            few: Vec::new(),
            traces: Vec::new(),
        })
    }
}

/// The traces so far.
struct TracesRows {
    projection: Vec<usize>,
    start_nanos: (i64, i64),
    forest: Forest,
    services: ServiceSet,
    /// The services of one trace.
    few: Vec<u32>,
    traces: Vec<TraceRow>,
}

#[derive(Debug, Clone, Copy)]
struct TraceRow {
    trace: u128,
    root_service: u32,
    root_name: u32,
    has_root: bool,
    summary: TraceSummary,
    first_ingested: i64,
    last_ingested: i64,
}

impl RelationRows for TracesRows {
    fn push(&mut self, trace: &TraceRows<'_>) {
        let columns = &trace.columns;
        if !self.is_asked_for(columns) {
            return;
        }
        self.forest.rebuild(columns);
        let summary = TraceSummary::new(columns, &self.forest, &mut self.services);
        let root = summary.root.map(|node| self.forest.row(node as usize));
        let mut row = TraceRow::new(trace, summary, root);
        for at in self.forest.rows() {
            row.add_ingested(trace, *at as usize);
        }
        self.traces.push(row);
    }

    /// A simple trace has no copies, its rows are in the order of siblings, and who has no offset
    /// to a parent has none.
    fn push_simple(&mut self, trace: &TraceRows<'_>) {
        let columns = &trace.columns;
        if !self.is_asked_for(columns) {
            return;
        }
        let mut summary = TraceSummary {
            span_count: columns.len() as u32,
            start_time_unix_nano: columns.start(0),
            end_time_unix_nano: columns.start(0),
            ..TraceSummary::default()
        };
        let mut root = None;
        self.few.clear();
        for at in 0..columns.len() {
            summary.end_time_unix_nano = summary.end_time_unix_nano.max(columns.end(at));
            summary.error_count += u32::from(columns.has_error(at));
            if columns.parent_offset[at] == NO_OFFSET {
                match columns.parent_span_id.get(at) {
                    Some(0) => {
                        root.get_or_insert(at);
                    }
                    Some(_) => summary.orphan_count += 1,
                    None => {}
                }
            }
            if let Some(service) = columns.service.get(at)
                && *service != NONE
                && !self.few.contains(service)
            {
                self.few.push(*service);
            }
        }
        summary.service_count = self.few.len() as u32;
        let mut row = TraceRow::new(trace, summary, root);
        for at in 0..columns.len() {
            row.add_ingested(trace, at);
        }
        self.traces.push(row);
    }

    fn len(&self) -> usize {
        self.traces.len()
    }

    fn size(&self) -> usize {
        // The rows, and the columns they become.
        self.traces.len() * 2 * size_of::<TraceRow>()
    }

    fn finish(&mut self, range: &RangeRows) -> Result<Vec<ArrayRef>> {
        let traces = std::mem::take(&mut self.traces);
        let numbers = |number: fn(&TraceRow) -> i64| traces.iter().map(number);
        let ints = |number: fn(&TraceRow) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(numbers(number)))
        };
        let columns = self.projection.iter().map(|index| {
            let name = COLUMNS.get(*index).copied().unwrap_or_default();
            Ok(match name {
                "trace_id" => id_column(traces.iter().map(|row| Some(row.trace.to_be_bytes()))),
                "root_service" => {
                    let services: Vec<u32> = traces.iter().map(|row| row.root_service).collect();
                    range.services.column(&services)
                }
                "root_name" => {
                    let names: Vec<u32> = traces.iter().map(|row| row.root_name).collect();
                    range.names.column(&names)
                }
                "start_time" => {
                    time_column(numbers(|row| row.summary.start_time_unix_nano).collect())
                }
                "end_time" => time_column(numbers(|row| row.summary.end_time_unix_nano).collect()),
                "duration_nano" => ints(|row| row.summary.duration_nano()),
                "duration_ms" => {
                    let millis =
                        numbers(|row| row.summary.duration_nano()).map(|nano| nano as f64 / 1e6);
                    Arc::new(Float64Array::from_iter_values(millis))
                }
                "span_count" => ints(|row| row.summary.span_count.into()),
                "service_count" => ints(|row| row.summary.service_count.into()),
                "error_count" => ints(|row| row.summary.error_count.into()),
                "has_root" => {
                    let has: Vec<bool> = traces.iter().map(|row| row.has_root).collect();
                    Arc::new(BooleanArray::from(has))
                }
                "orphan_count" => ints(|row| row.summary.orphan_count.into()),
                "first_ingested_at" => known_micros(numbers(|row| row.first_ingested)),
                "last_ingested_at" => known_micros(numbers(|row| row.last_ingested)),
                other => return exec_err!("traces has no column `{other}`"),
            })
        });
        columns.collect()
    }
}

impl TracesRows {
    /// Whether a trace begins in the time asked for.
    fn is_asked_for(&self, columns: &TraceColumns<'_>) -> bool {
        let (least, greatest) = self.start_nanos;
        let first = columns.start_time_unix_nano.iter().min();
        first.is_some_and(|first| (least..=greatest).contains(first))
    }
}

impl TraceRow {
    fn new(trace: &TraceRows<'_>, summary: TraceSummary, root: Option<usize>) -> Self {
        let columns = &trace.columns;
        Self {
            trace: trace.trace,
            root_service: root.map_or(NONE, |row| columns.service(row)),
            root_name: root.map_or(NONE, |row| columns.name(row)),
            has_root: root.is_some(),
            first_ingested: NEVER_INGESTED,
            last_ingested: NEVER_INGESTED,
            summary,
        }
    }

    fn add_ingested(&mut self, trace: &TraceRows<'_>, row: usize) {
        let micros = trace
            .range
            .columns
            .ingested_at
            .get(trace.place(row) as usize);
        let Some(micros) = micros.copied().filter(|micros| *micros != NEVER_INGESTED) else {
            return;
        };
        self.last_ingested = self.last_ingested.max(micros);
        self.first_ingested = match self.first_ingested {
            NEVER_INGESTED => micros,
            first => first.min(micros),
        };
    }
}

fn known_micros(micros: impl Iterator<Item = i64>) -> ArrayRef {
    micro_time_column(micros.map(|micro| (micro != NEVER_INGESTED).then_some(micro)))
}
