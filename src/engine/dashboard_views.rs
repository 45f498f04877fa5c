//! `spans` under the names that dashboards made for other stores use.
//!
//! Read [`DASHBOARD_VIEWS`], then [`resolve_view_names`]. What is a column of `spans` as it stands
//! keeps that column's pruning. SQL folds names to lower case, dashboards write `TraceId` without
//! quotes, and stores that make a column of each attribute have columns `span_attributes.http.route`:
//! both is mended in the parsed text of statements that read these views.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Select,
    SelectItem, Subscript, Value, VisitMut, VisitorMut,
};

/// A view of `spans` with other names.
pub(super) struct DashboardView {
    /// What it is called.
    pub(super) name: &'static str,
    /// Its columns and what of `spans` they show.
    columns: &'static [(&'static str, &'static str)],
}

/// All of them.
pub(super) const DASHBOARD_VIEWS: [DashboardView; 3] = [
    DashboardView {
        name: "otel_traces",
        columns: &OTEL_TRACES,
    },
    DashboardView {
        name: "opentelemetry_traces",
        columns: &OPENTELEMETRY_TRACES,
    },
    DashboardView {
        name: "grafana_trace",
        columns: &GRAFANA_TRACE,
    },
];

/// The table of the OpenTelemetry Collector's ClickHouse exporter
/// (<https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/clickhouseexporter>).
/// There, an absent text is empty; here that holds for the columns that pruning does not need.
const OTEL_TRACES: [(&str, &str); 22] = [
    ("Timestamp", "start_time"),
    ("TraceId", "trace_id"),
    ("SpanId", "span_id"),
    ("ParentSpanId", "coalesce(parent_span_id, '')"),
    ("TraceState", "coalesce(trace_state, '')"),
    ("SpanName", "name"),
    ("SpanKind", "initcap(kind)"),
    ("ServiceName", "service_name"),
    ("ResourceAttributes", "resource_attributes"),
    ("ScopeName", "coalesce(scope_name, '')"),
    ("ScopeVersion", "coalesce(scope_version, '')"),
    ("SpanAttributes", "attributes"),
    ("Duration", "duration_nano"),
    ("StatusCode", "initcap(status_code)"),
    ("StatusMessage", "coalesce(status_message, '')"),
    ("Events.Timestamp", "list_field(events, 'time')"),
    ("Events.Name", "list_field(events, 'name')"),
    ("Events.Attributes", "list_field(events, 'attributes')"),
    ("Links.TraceId", "list_field(links, 'trace_id')"),
    ("Links.SpanId", "list_field(links, 'span_id')"),
    ("Links.TraceState", "list_field(links, 'trace_state')"),
    ("Links.Attributes", "list_field(links, 'attributes')"),
];

/// GreptimeDB's data model `greptime_trace_v1`
/// (<https://docs.greptime.com/user-guide/traces/data-model>), with attributes that have no column
/// of their own in one.
const OPENTELEMETRY_TRACES: [(&str, &str); 19] = [
    ("timestamp", "start_time"),
    ("timestamp_end", "end_time"),
    ("duration_nano", "duration_nano"),
    ("trace_id", "trace_id"),
    ("span_id", "span_id"),
    ("parent_span_id", "parent_span_id"),
    ("span_kind", "concat('SPAN_KIND_', kind)"),
    ("span_name", "name"),
    ("span_status_code", "concat('STATUS_CODE_', status_code)"),
    ("span_status_message", "coalesce(status_message, '')"),
    ("trace_state", "coalesce(trace_state, '')"),
    ("scope_name", "coalesce(scope_name, '')"),
    ("scope_version", "coalesce(scope_version, '')"),
    ("service_name", "service_name"),
    ("span_attributes", "attributes"),
    ("resource_attributes", "resource_attributes"),
    ("scope_attributes", "scope_attributes"),
    ("span_events", "events"),
    ("span_links", "links"),
];

/// The columns of [`OPENTELEMETRY_TRACES`] whose attributes have columns of their own there.
const FLATTENED: [&str; 3] = ["span_attributes", "resource_attributes", "scope_attributes"];

/// The frame of Grafana's trace panel
/// (<https://grafana.com/docs/grafana/latest/explore/trace-integration/>): times in milliseconds,
/// lists as JSON texts.
const GRAFANA_TRACE: [(&str, &str); 17] = [
    ("traceID", "trace_id"),
    ("spanID", "span_id"),
    ("parentSpanID", "parent_span_id"),
    ("operationName", "name"),
    ("serviceName", "service_name"),
    ("kind", "lower(kind)"),
    (
        "statusCode",
        "CASE status_code WHEN 'OK' THEN 1 WHEN 'ERROR' THEN 2 ELSE 0 END",
    ),
    ("statusMessage", "status_message"),
    ("instrumentationLibraryName", "scope_name"),
    ("instrumentationLibraryVersion", "scope_version"),
    ("traceState", "trace_state"),
    ("serviceTags", "grafana_tags(resource_attributes)"),
    ("startTime", "CAST(start_time AS BIGINT) / 1e6"),
    ("duration", "coalesce(duration_ms, 0)"),
    ("tags", "grafana_tags(attributes)"),
    ("logs", "grafana_logs(events)"),
    ("references", "grafana_references(links)"),
];

impl DashboardView {
    /// What it is, as SQL.
    pub(super) fn sql(&self) -> String {
        let mut sql = String::from("SELECT ");
        for (number, (name, expression)) in self.columns.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            // Writing to a text cannot fail.
            let _ = write!(sql, "{comma}{expression} AS \"{name}\"");
        }
        sql.push_str(" FROM spans");
        sql
    }
}

/// Gives columns of the views that a statement reads their exact names.
pub(super) fn resolve_view_names(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            let mut relations = Relations::default();
            let _ = statement.visit(&mut relations);
            let read = DASHBOARD_VIEWS
                .iter()
                .filter(|view| relations.0.contains(view.name));
            let names: Vec<&'static str> = read
                .flat_map(|view| view.columns)
                .map(|(name, _)| *name)
                .collect();
            if !names.is_empty() {
                let _ = statement.visit(&mut Names(names));
            }
        }
        Statement::Explain(explain) => resolve_view_names(&mut explain.statement),
        _ => {}
    }
}

/// The bare names of the relations that a statement reads.
#[derive(Default)]
struct Relations(HashSet<String>);

impl VisitorMut for Relations {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let last = relation.0.last().and_then(ObjectNamePart::as_ident);
        self.0.extend(last.map(|name| name.value.to_lowercase()));
        ControlFlow::Continue(())
    }
}

/// The names of columns, as they are written.
struct Names(Vec<&'static str>);

impl Names {
    /// The column that a name without quotes means, whatever its case.
    fn exact(&self, name: &Ident) -> Option<Ident> {
        let given = name.quote_style.is_none().then_some(&name.value)?;
        self.named(given)
    }

    fn named(&self, given: &str) -> Option<Ident> {
        let mut names = self.0.iter();
        let name = names.find(|name| name.eq_ignore_ascii_case(given))?;
        Some(Ident::with_quote('"', *name))
    }

    fn restore(&self, name: &mut Ident) {
        if let Some(exact) = self.exact(name) {
            *name = exact;
        }
    }

    /// The same behind the name of a relation, or of both parts of `Events.Name`.
    fn restore_last(&self, parts: &mut Vec<Ident>) {
        if let [.., first, second] = &parts[..]
            && let Some(exact) = self.named(&format!("{first}.{second}"))
        {
            parts.truncate(parts.len() - 2);
            parts.push(exact);
        } else if let Some(last) = parts.last_mut() {
            self.restore(last);
        }
    }

    /// The lookup that a column of one attribute stands for.
    fn lookup(&self, parts: &[Ident]) -> Option<Expr> {
        let (last, qualifiers) = parts.split_last()?;
        let (object, key) = last.value.split_once('.')?;
        let is_column = FLATTENED.contains(&object) && self.0.contains(&object);
        if !is_column || last.quote_style.is_none() {
            return None;
        }
        let mut path = qualifiers.to_vec();
        path.push(Ident::with_quote('"', object));
        let mut path = path.into_iter();
        let root = Box::new(Expr::Identifier(path.next()?));
        let mut access_chain: Vec<AccessExpr> = path
            .map(|part| AccessExpr::Dot(Expr::Identifier(part)))
            .collect();
        let key = Value::SingleQuotedString(key.to_string());
        let index = Expr::Value(key.into());
        access_chain.push(AccessExpr::Subscript(Subscript::Index { index }));
        Some(Expr::CompoundFieldAccess { root, access_chain })
    }
}

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => self.restore(alias),
                // The reader asked for a column of this name.
                SelectItem::UnnamedExpr(expr) => {
                    let parts = match &*expr {
                        Expr::Identifier(name) => std::slice::from_ref(name),
                        Expr::CompoundIdentifier(parts) => parts.as_slice(),
                        _ => continue,
                    };
                    if let (Some(expr), Some(alias)) = (self.lookup(parts), parts.last().cloned()) {
                        *item = SelectItem::ExprWithAlias { expr, alias };
                    }
                }
                _ => {}
            }
        }
        for table in &mut select.from {
            for join in &mut table.joins {
                if let JoinOperator::Join(JoinConstraint::Using(columns))
                | JoinOperator::Inner(JoinConstraint::Using(columns))
                | JoinOperator::Left(JoinConstraint::Using(columns))
                | JoinOperator::LeftOuter(JoinConstraint::Using(columns)) =
                    &mut join.join_operator
                {
                    for part in columns.iter_mut().flat_map(|column| &mut column.0) {
                        if let ObjectNamePart::Identifier(name) = part {
                            self.restore(name);
                        }
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => match self.lookup(std::slice::from_ref(name)) {
                Some(lookup) => *expr = lookup,
                None => self.restore(name),
            },
            Expr::CompoundIdentifier(parts) => match self.lookup(parts) {
                Some(lookup) => *expr = lookup,
                None => {
                    self.restore_last(parts);
                    if let [only] = &parts[..] {
                        *expr = Expr::Identifier(only.clone());
                    }
                }
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn resolved(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        resolve_view_names(&mut statement);
        statement.to_string()
    }

    #[test]
    fn names_get_the_case_of_the_view_s_columns() {
        for (sql, expected) in [
            (
                "SELECT servicename, t.SpanName FROM otel_traces AS t WHERE Timestamp > 5",
                "SELECT \"ServiceName\", t.\"SpanName\" FROM otel_traces AS t WHERE \"Timestamp\" > 5",
            ),
            (
                "WITH x AS (SELECT TraceId FROM otel_traces) SELECT TraceId FROM x",
                "WITH x AS (SELECT \"TraceId\" FROM otel_traces) SELECT \"TraceId\" FROM x",
            ),
            (
                "SELECT Events.Name FROM otel_traces JOIN y USING (traceid)",
                "SELECT \"Events.Name\" FROM otel_traces JOIN y USING(\"TraceId\")",
            ),
            (
                "SELECT name AS traceid FROM spans",
                "SELECT name AS traceid FROM spans",
            ),
        ] {
            assert_eq!(resolved(sql), expected);
        }
    }

    #[test]
    fn columns_of_attributes_are_lookups_under_their_name() {
        for (sql, expected) in [
            (
                "SELECT \"span_attributes.http.route\" FROM opentelemetry_traces",
                "SELECT \"span_attributes\"['http.route'] AS \"span_attributes.http.route\" FROM opentelemetry_traces",
            ),
            (
                "SELECT 1 FROM opentelemetry_traces AS t WHERE t.\"resource_attributes.k\" = 'v'",
                "SELECT 1 FROM opentelemetry_traces AS t WHERE t.\"resource_attributes\"['k'] = 'v'",
            ),
        ] {
            assert_eq!(resolved(sql), expected);
        }
    }
}
