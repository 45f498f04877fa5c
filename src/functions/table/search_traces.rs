//! `search_traces`: traces by what their spans are.
//!
//! Read [`SearchTracesFunc`]; its arguments are `search_arguments.rs`, what they mean is
//! [`TraceQuery`].

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListBuilder, RecordBatch, RecordBatchOptions,
    StringViewArray, StringViewBuilder, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{DocSection, Documentation, Expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use super::constant::no_value;
use super::search_arguments::{SEARCH_ARGUMENTS, SearchArguments, read_arguments};
use super::trace_function::streamed;
use crate::search::{SearchHit, SearchOrder, SearchPage, SearchPlace, TraceOverview, TraceQuery};
use crate::span::IdKind;

/// Answers searches.
#[async_trait]
pub trait TraceSearcher: std::fmt::Debug + Send + Sync {
    /// The page a query asks for.
    async fn search(&self, query: &TraceQuery) -> crate::Result<SearchPage>;

    /// The same page, without what only reading its traces tells.
    async fn places(&self, query: &TraceQuery) -> crate::Result<SearchPage<SearchPlace>>;
}

/// `search_traces(name => value, …)`.
#[derive(Debug)]
pub(super) struct SearchTracesFunc {
    searcher: Arc<dyn TraceSearcher>,
}

impl SearchTracesFunc {
    pub(super) const NAME: &str = "search_traces";

    pub(super) fn new(searcher: Arc<dyn TraceSearcher>) -> Self {
        Self { searcher }
    }

    pub(super) fn documentation() -> Documentation {
        let mut builder = Documentation::builder(
            DocSection::default(),
            "The traces with a span that is as the arguments say, a row each, in their order: the \
             columns of `traces`, then `matched_span_count`, `matched_span_ids`, \
             `last_match_time`, `longest_match_nano`, `cursor` and `total_count`. All arguments \
             have names, and all may be left out.",
            "search_traces(service => 'checkout', min_duration => '1s', newest => 20)",
        )
        .with_sql_example(
            "select root_service, root_name, span_count, matched_span_count\n\
             from search_traces(attributes => 'http.response.status_code = 200', newest => 5);\n\
             +--------------+-------------+------------+--------------------+\n\
             | root_service | root_name   | span_count | matched_span_count |\n\
             +--------------+-------------+------------+--------------------+\n\
             | library      | POST /loans | 5          | 2                  |\n\
             +--------------+-------------+------------+--------------------+",
        );
        for (name, description) in SEARCH_ARGUMENTS {
            builder = builder.with_argument(name, description);
        }
        builder.build()
    }
}

impl TableFunctionImpl for SearchTracesFunc {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(SearchTable {
            searcher: Arc::clone(&self.searcher),
            arguments: read_arguments(arguments.exprs())?,
        }))
    }
}

/// One call as a table.
#[derive(Debug)]
struct SearchTable {
    searcher: Arc<dyn TraceSearcher>,
    arguments: SearchArguments,
}

#[async_trait]
impl TableProvider for SearchTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let query = self.arguments.as_ref().map_err(|name| no_value(name))?;
        let mut query = query.clone();
        // The number of a page counts pages of the call's own size.
        if let (Some(limit), None) = (limit, query.page) {
            query.limit = query.limit.min(limit.max(1));
        }
        if let Some(projection) = projection {
            let schema = Arc::new(schema().project(projection)?);
            if schema
                .fields()
                .iter()
                .all(|field| is_of_place(field, query.order))
            {
                let rows = PlaceRows {
                    searcher: Arc::clone(&self.searcher),
                    query,
                    schema,
                };
                return streamed(Arc::new(rows), None, limit);
            }
        }
        let rows = SearchRows {
            searcher: Arc::clone(&self.searcher),
            query,
            schema: schema(),
        };
        streamed(Arc::new(rows), projection, limit)
    }
}

/// The rows of one call; the search runs when they are asked for.
#[derive(Debug)]
struct SearchRows {
    searcher: Arc<dyn TraceSearcher>,
    query: TraceQuery,
    schema: SchemaRef,
}

impl PartitionStream for SearchRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (searcher, query) = (Arc::clone(&self.searcher), self.query.clone());
        let rows = futures::stream::once(async move {
            let page = searcher.search(&query).await?;
            Ok(rows_of(&page)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema(), rows))
    }
}

/// The rows of one call of which only columns are asked for that need no whole trace.
#[derive(Debug)]
struct PlaceRows {
    searcher: Arc<dyn TraceSearcher>,
    query: TraceQuery,
    schema: SchemaRef,
}

impl PartitionStream for PlaceRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (searcher, query) = (Arc::clone(&self.searcher), self.query.clone());
        let schema = Arc::clone(&self.schema);
        let rows = futures::stream::once(async move {
            let page = searcher.places(&query).await?;
            let columns = schema.fields().iter();
            let columns = columns
                .map(|field| place_column(&page, field.name()))
                .collect();
            let count = RecordBatchOptions::new().with_row_count(Some(page.hits.len()));
            Ok(RecordBatch::try_new_with_options(schema, columns, &count)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            rows,
        ))
    }
}

/// Whether a column tells where a trace stands, and no more of it.
fn is_of_place(column: &Field, order: SearchOrder) -> bool {
    match column.name().as_str() {
        "trace_id" | "cursor" | "total_count" => true,
        "last_match_time" => order == SearchOrder::Newest,
        "longest_match_nano" => order == SearchOrder::Slowest,
        _ => false,
    }
}

/// A column for which [`is_of_place`] holds.
fn place_column(page: &SearchPage<SearchPlace>, name: &str) -> ArrayRef {
    let places = page.hits.iter();
    match name {
        "trace_id" => {
            let ids = places.map(|place| place.trace_id.to_string());
            Arc::new(StringViewArray::from_iter_values(ids))
        }
        "cursor" => {
            let cursors = places.map(|place| &place.cursor);
            Arc::new(StringViewArray::from_iter_values(cursors))
        }
        "last_match_time" => {
            let times = TimestampNanosecondArray::from_iter_values(places.map(|place| place.key));
            Arc::new(times.with_timezone("UTC"))
        }
        "longest_match_nano" => {
            let longest = places.map(|place| Some(place.key).filter(|key| *key > i64::MIN));
            Arc::new(longest.collect::<Int64Array>())
        }
        _ => total_counts(page),
    }
}

fn total_counts<T>(page: &SearchPage<T>) -> ArrayRef {
    let counts = page.hits.iter().map(|_| page.total.map(as_int));
    Arc::new(counts.collect::<Int64Array>())
}

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let nano = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let micro = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let id = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let count = |name: &str| required(name, DataType::Int64);
        Arc::new(Schema::new(vec![
            IdKind::Trace.mark(required("trace_id", DataType::Utf8View)),
            optional("root_service", DataType::Utf8View),
            optional("root_name", DataType::Utf8View),
            required("start_time", nano()),
            required("end_time", nano()),
            count("duration_nano"),
            required("duration_ms", DataType::Float64),
            count("span_count"),
            count("service_count"),
            count("error_count"),
            required("has_root", DataType::Boolean),
            count("orphan_count"),
            optional("first_ingested_at", micro()),
            optional("last_ingested_at", micro()),
            count("matched_span_count"),
            required("matched_span_ids", DataType::List(id)),
            required("last_match_time", nano()),
            optional("longest_match_nano", DataType::Int64),
            required("cursor", DataType::Utf8View),
            optional("total_count", DataType::Int64),
        ]))
    });
    Arc::clone(&SCHEMA)
}

fn rows_of(page: &SearchPage) -> crate::Result<RecordBatch> {
    let hits = &page.hits;
    let traces = || hits.iter().map(|hit| &hit.trace);
    let texts = |text: fn(&TraceOverview) -> Option<&str>| -> ArrayRef {
        Arc::new(traces().map(text).collect::<StringViewArray>())
    };
    let counts = |count: fn(&TraceOverview) -> u64| -> ArrayRef {
        let counts = traces().map(|trace| as_int(count(trace)));
        Arc::new(Int64Array::from_iter_values(counts))
    };
    let nanos = |nano: fn(&SearchHit) -> i64| -> ArrayRef {
        let nanos = TimestampNanosecondArray::from_iter_values(hits.iter().map(nano));
        Arc::new(nanos.with_timezone("UTC"))
    };
    let micros = |micro: fn(&TraceOverview) -> Option<i64>| -> ArrayRef {
        let micros: TimestampMicrosecondArray = traces().map(micro).collect();
        Arc::new(micros.with_timezone("UTC"))
    };
    let mut span_ids = ListBuilder::new(StringViewBuilder::new());
    for hit in hits {
        let ids = hit.matched_span_ids.iter();
        span_ids.append_value(ids.map(|id| Some(id.to_string())));
    }
    let ids = hits.iter().map(|hit| hit.trace.trace_id.to_string());
    let matched = hits.iter().map(|hit| as_int(hit.matched_span_count));
    let longest: Int64Array = hits.iter().map(|hit| hit.longest_match_nano).collect();
    let durations = || traces().map(TraceOverview::duration_nano);
    let millis = durations().map(|nano| nano as f64 / 1e6);
    let has_root: Vec<bool> = traces().map(|trace| trace.has_root).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(ids)),
        texts(|trace| trace.root_service.as_deref()),
        texts(|trace| trace.root_name.as_deref()),
        nanos(|hit| hit.trace.start_nano),
        nanos(|hit| hit.trace.end_nano),
        Arc::new(Int64Array::from_iter_values(durations())),
        Arc::new(Float64Array::from_iter_values(millis)),
        counts(|trace| trace.span_count),
        counts(|trace| trace.service_count),
        counts(|trace| trace.error_count),
        Arc::new(BooleanArray::from(has_root)),
        counts(|trace| trace.orphan_count),
        micros(|trace| trace.first_ingested_micros),
        micros(|trace| trace.last_ingested_micros),
        Arc::new(Int64Array::from_iter_values(matched)),
        Arc::new(span_ids.finish()),
        nanos(|hit| hit.last_match_nano),
        Arc::new(longest),
        Arc::new(StringViewArray::from_iter_values(
            hits.iter().map(|hit| &hit.cursor),
        )),
        total_counts(page),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn as_int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
