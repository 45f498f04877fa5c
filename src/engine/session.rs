//! The only place where anything is registered with DataFusion.
//!
//! Read [`Session`]: SQL text goes in, a stream of rows comes out. REPL, servers and tests use
//! this one builder.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::config::Dialect;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{DdlStatement, Documentation, LogicalPlan, ScalarUDF};
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement as ParsedStatement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use super::aliases::resolve_aliases;
use super::dashboard_views::resolve_view_names;
use super::lake_searcher::LakeSearcher;
use super::parameters::with_parameters;
use super::query_stream::QueryStream;
use super::statement_memory::limited_runtime;
use super::{Lake, views};
use crate::error::{Error, Result};
use crate::exec::{
    self, EdgeCountsRelation, ServiceEdgesRelation, TraceRelation, TraceRelationTable,
};
use crate::functions::scalar::AttributeFunc;
use crate::functions::table::{TableCalls, TraceReader, substitute_parameters};
use crate::functions::time_range::{EdgeRelations, TraceRelations};
use crate::functions::{self, AttributeComparison, AttributeSyntax, SemconvKeys};
use crate::span::{AttributeOutput, TraceId};
use crate::table::{
    BoundedPages, Catalog, CatalogTable, IdLiterals, ItemFilters, LakeFiles, LakeMaintenance,
    ListingTable, NewestFirst, SpansTable, StoredComparisons, TraceScope,
};
use crate::trace::EdgeMode;

/// The names of the lake's own tables and views.
const RELATIONS: [&str; 17] = [
    "spans",
    "span_events",
    "span_links",
    "traces",
    "span_tree",
    "service_edges",
    "critical_paths",
    "services",
    "operations",
    "attribute_keys",
    "attribute_values",
    "lake_files",
    "lake_maintenance",
    "table_functions",
    "otel_traces",
    "opentelemetry_traces",
    "grafana_trace",
];

/// What a session may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Whether statements may only ask: none makes tables, reads files of this machine or
    /// changes settings. For people who are not at this machine.
    pub only_queries: bool,
    /// Memory that one statement may use, in bytes; as much as all where not said.
    pub statement_memory_bytes: Option<usize>,
}

/// SQL over one lake.
#[derive(Clone)]
pub struct Session {
    lake: Lake,
    context: SessionContext,
    options: SessionOptions,
}

/// One parsed statement of a script.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(super) parsed: ParsedStatement,
}

impl Statement {
    /// What was parsed, where that is plain SQL.
    pub fn syntax(&self) -> Option<&ast::Statement> {
        match &self.parsed {
            ParsedStatement::Statement(statement) => Some(statement),
            _ => None,
        }
    }
}

impl From<ast::Statement> for Statement {
    fn from(statement: ast::Statement) -> Self {
        Self {
            parsed: ParsedStatement::Statement(Box::new(statement)),
        }
    }
}

impl std::fmt::Display for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parsed.fmt(f)
    }
}

impl Session {
    pub(super) async fn try_new(lake: &Lake, options: SessionOptions) -> Result<Self> {
        let context = SessionContext::new_with_state(state(lake));
        let scalar = functions::scalar::all().into_iter();
        for function in scalar.chain(functions::scalar::replacements()) {
            context.register_udf(function.as_ref().clone());
        }
        for function in functions::aggregate::all() {
            context.register_udaf(function.as_ref().clone());
        }
        let spans = spans_table(lake);
        register_trace_relations(&context, lake, &spans)?;
        let reader: Arc<dyn TraceReader> = Arc::clone(lake.traces()) as _;
        let searcher = Arc::clone(lake.searcher());
        for function in functions::table::all(&reader, searcher) {
            context.register_udtf(function.name, function.implementation);
        }
        for catalog in Catalog::ALL {
            let table = CatalogTable::new(catalog, Arc::clone(&spans));
            context.register_table(catalog.name(), Arc::new(table))?;
        }
        context.register_table("spans", spans)?;
        context.register_table("table_functions", Arc::new(table_functions()?))?;
        let files = ListingTable::new(LakeFiles::new(Arc::clone(lake.log())));
        context.register_table("lake_files", Arc::new(files))?;
        let maintenance = LakeMaintenance::new(Arc::clone(lake.maintenance_log()));
        context.register_table("lake_maintenance", Arc::new(ListingTable::new(maintenance)))?;
        views::register(&context).await?;
        Ok(Self {
            lake: lake.clone(),
            context,
            options,
        })
    }

    /// The statements of a script, in order; comments and empty statements are left out.
    pub fn statements(sql: &str) -> Result<Vec<Statement>> {
        let dialect = PostgreSqlDialect {};
        let mut parser = DFParserBuilder::new(sql).with_dialect(&dialect).build()?;
        let statements = parser.parse_statements()?;
        Ok(statements
            .into_iter()
            .map(|parsed| Statement { parsed })
            .collect())
    }

    /// Runs one statement, with values for its `$name` or `$1` placeholders.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &[(String, ScalarValue)],
    ) -> Result<QueryStream> {
        let mut statements = Self::statements(sql)?;
        match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) => self.run(statement, parameters).await,
            (None, _) => Err(Error::invalid_input("there is no statement to run")),
            (Some(_), false) => Err(Error::invalid_input(
                "more than one statement; run them one at a time",
            )),
        }
    }

    /// The spans of one trace, with all columns, in the order they began.
    pub async fn trace_rows(&self, trace_id: TraceId) -> Result<QueryStream> {
        let sql = "SELECT * FROM spans WHERE trace_id = $1 ORDER BY start_time, span_id";
        let parameter = ScalarValue::from(trace_id.to_string());
        self.query(sql, &[("1".to_string(), parameter)]).await
    }

    /// Runs one parsed statement.
    pub async fn run(
        &self,
        statement: Statement,
        parameters: &[(String, ScalarValue)],
    ) -> Result<QueryStream> {
        let plan = self.plan(statement, parameters).await?;
        self.execute(plan)
    }

    /// Runs a logical plan of [`Session::logical_plan`], its placeholders filled.
    pub async fn run_plan(&self, plan: LogicalPlan) -> Result<QueryStream> {
        self.refuse_writes(&plan)?;
        self.lake.refresh().await?;
        let frame = self.context.execute_logical_plan(plan).await?;
        self.execute(frame.create_physical_plan().await?)
    }

    /// The logical plan of a statement as written, with its placeholders.
    pub async fn logical_plan(&self, statement: Statement) -> Result<LogicalPlan> {
        self.logical_plan_with(statement, &[]).await
    }

    pub(super) async fn logical_plan_with(
        &self,
        statement: Statement,
        parameters: &[(String, ScalarValue)],
    ) -> Result<LogicalPlan> {
        self.lake.refresh().await?;
        let mut parsed = statement.parsed;
        resolve_aliases(&mut parsed);
        resolve_view_names(&mut parsed);
        substitute_parameters(&mut parsed, parameters);
        let plan = self.context.state().statement_to_plan(parsed).await?;
        self.refuse_writes(&plan)?;
        Ok(plan)
    }

    fn execute(&self, plan: Arc<dyn ExecutionPlan>) -> Result<QueryStream> {
        let mut task = TaskContext::from(&self.context);
        if let Some(limit) = self.options.statement_memory_bytes {
            task = task.with_runtime(limited_runtime(self.lake.runtime(), limit));
        }
        QueryStream::start(plan, Arc::new(task))
    }

    fn refuse_writes(&self, plan: &LogicalPlan) -> Result<()> {
        if self.options.only_queries {
            let options = SQLOptions::new()
                .with_allow_dml(false)
                .with_allow_ddl(false)
                .with_allow_statements(false);
            return Ok(options.verify_plan(plan)?);
        }
        refuse_writes(plan)
    }

    /// The physical plan of a statement.
    pub(super) async fn plan(
        &self,
        statement: Statement,
        parameters: &[(String, ScalarValue)],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.logical_plan_with(statement, parameters).await?;
        let plan = with_parameters(plan, parameters)?;
        let frame = self.context.execute_logical_plan(plan).await?;
        Ok(frame.create_physical_plan().await?)
    }

    /// DataFusion's own context, for what SQL text cannot do: data frames, more tables.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }
}

/// The relations over whole traces, and the functions made of them.
fn register_trace_relations(
    context: &SessionContext,
    lake: &Lake,
    spans: &Arc<SpansTable>,
) -> Result<()> {
    /// Of the memory limit, for each span that is worked through at a time: several statements may
    /// work through as many.
    const RANGE_ROW_BYTES: usize = 512;
    let config = &lake.config().query;
    let scope = TraceScope {
        margin: config.trace_margin,
        range_rows: config
            .trace_range_rows
            .min(config.memory_limit_bytes / RANGE_ROW_BYTES),
    };
    let table = |relation: Arc<dyn TraceRelation>| -> Arc<dyn TableProvider> {
        let spans = Arc::clone(spans);
        Arc::new(TraceRelationTable::new(spans, relation, scope))
    };
    let attribute = Arc::new(ScalarUDF::from(AttributeFunc::new(AttributeOutput::Text)));
    for relation in exec::relations(&attribute) {
        context.register_table(relation.name(), table(relation))?;
    }
    let edges = EdgeMode::ALL.map(|(_, mode)| {
        let calls = ServiceEdgesRelation::new(mode, Arc::clone(&attribute));
        EdgeRelations {
            mode,
            counts: table(Arc::new(EdgeCountsRelation::new(calls.clone()))),
            calls: table(Arc::new(calls)),
        }
    });
    let relations = TraceRelations {
        traces: table(Arc::new(exec::TracesRelation)),
        span_tree: table(Arc::new(exec::SpanTreeRelation::default())),
        edges: edges.to_vec(),
    };
    for function in functions::time_range::all(&relations) {
        context.register_udtf(function.name, function.implementation);
    }
    Ok(())
}

/// A session reads: spans come in by ingest, results go out by whoever called. Tables and views
/// of its own it may make, but not in the place of the lake's.
fn refuse_writes(plan: &LogicalPlan) -> Result<()> {
    SQLOptions::new().with_allow_dml(false).verify_plan(plan)?;
    let LogicalPlan::Ddl(statement) = plan else {
        return Ok(());
    };
    let name = match statement {
        DdlStatement::CreateExternalTable(table) => Some(&table.name),
        DdlStatement::CreateMemoryTable(table) => Some(&table.name),
        DdlStatement::CreateView(view) => Some(&view.name),
        DdlStatement::DropTable(table) => Some(&table.name),
        DdlStatement::DropView(view) => Some(&view.name),
        _ => None,
    };
    match name {
        Some(name) if RELATIONS.contains(&name.table()) => Err(Error::invalid_input(format!(
            "`{}` belongs to the lake and cannot be made or dropped; use another name",
            name.table()
        ))),
        _ => Ok(()),
    }
}

/// The manuals of table functions, which `information_schema.routines` does not list.
fn table_functions() -> Result<MemTable> {
    let field = |name: &str| Field::new(name, DataType::Utf8View, false);
    let schema = Schema::new(
        ["name", "syntax", "description", "example"]
            .map(field)
            .to_vec(),
    );
    let schema = Arc::new(schema);
    let mut manuals = functions::table::manuals();
    manuals.sort_by_key(|(name, _)| *name);
    let texts = |text: for<'a> fn(&'a (&'static str, Documentation)) -> &'a str| -> ArrayRef {
        let texts = manuals.iter().map(text);
        Arc::new(StringViewArray::from_iter_values(texts))
    };
    let columns = vec![
        texts(|(name, _)| name),
        texts(|(_, manual)| &manual.syntax_example),
        texts(|(_, manual)| &manual.description),
        texts(|(_, manual)| manual.sql_example.as_deref().unwrap_or_default()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(MemTable::try_new(schema, vec![vec![batch]])?)
}

/// How statements are planned and run.
fn state(lake: &Lake) -> SessionState {
    SessionStateBuilder::new()
        .with_config(session_config(lake))
        .with_runtime_env(Arc::clone(lake.runtime()))
        .with_default_features()
        .with_expr_planners(expr_planners())
        .with_relation_planners(vec![Arc::new(table_calls())])
        .with_analyzer_rules(analyzer_rules())
        .with_optimizer_rules(optimizer_rules())
        .with_physical_optimizer_rule(Arc::new(StoredComparisons))
        .with_physical_optimizer_rule(Arc::new(BoundedPages))
        .with_physical_optimizer_rule(Arc::new(exec::CooperativeJoins))
        .build()
}

fn spans_table(lake: &Lake) -> Arc<SpansTable> {
    Arc::new(SpansTable::new(
        Arc::clone(lake.log()),
        Arc::clone(lake.filters()),
        lake.indexes().cloned(),
        lake.store_url().clone(),
        lake.config().query.pruning,
    ))
}

/// What searches the lake for all its sessions. It plans as they do, with nothing registered.
pub(super) fn searcher(lake: &Lake) -> LakeSearcher {
    LakeSearcher {
        state: state(lake),
        spans: spans_table(lake),
        log: Arc::clone(lake.log()),
        rows: Arc::clone(lake.rows()),
        window_spans: lake.config().query.search_window_spans,
    }
}

fn session_config(lake: &Lake) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema("tracelake", "public");
    if let Some(threads) = lake.config().query.threads {
        config = config.with_target_partitions(threads.max(1));
    }
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    // The table decides, query by query, whether filters are evaluated while decoding.
    options.execution.parquet.pushdown_filters = false;
    // It cuts files into parts by their rows. Cut by bytes, a file of one row group is opened twice
    // and read by one thread all the same.
    options.optimizer.repartition_file_scans = false;
    config
}

fn expr_planners() -> Vec<Arc<dyn datafusion::logical_expr::planner::ExprPlanner>> {
    // Before DataFusion's own, which would take a subscript for a struct's field.
    let mut planners: Vec<Arc<dyn datafusion::logical_expr::planner::ExprPlanner>> =
        vec![Arc::new(AttributeSyntax::default())];
    planners.extend(SessionStateDefaults::default_expr_planners());
    planners
}

fn table_calls() -> TableCalls {
    let manuals = functions::table::manuals();
    TableCalls::new(manuals.iter().map(|(name, manual)| (*name, manual)))
}

fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    // Before types are coerced: afterwards a comparison with a number is one of texts.
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(IdLiterals),
        Arc::new(SemconvKeys::default()),
        Arc::new(AttributeComparison::default()),
    ];
    rules.extend(Analyzer::new().rules);
    rules
}

fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    // When filters have reached the scan, and are still written as it was told them.
    let pushed = rules
        .iter()
        .position(|rule| rule.name() == "push_down_filter");
    let at = pushed.map_or(rules.len(), |at| at + 1);
    rules.insert(at, Arc::new(NewestFirst));
    rules.insert(at, Arc::new(ItemFilters));
    rules
}
