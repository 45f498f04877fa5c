//! Lets columns of `spans` stand under their other names (`span_name`, `duration`, …).
//!
//! Read [`resolve_aliases`]. It works on the parsed text, scope by scope: an alias is replaced
//! only in a SELECT that reads `spans` itself, and only where nothing else of that name is in
//! reach, so a query's own column `duration` stays what the query made it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, VisitMut, VisitorMut,
};

use crate::span::COLUMN_ALIASES;

/// The relations whose columns have other names: those with all columns of `spans`.
const ALIASED: [&str; 2] = ["spans", "span_tree"];

/// The columns of our other relations that have the name of an alias.
const RELATION_COLUMNS: [(&str, &[&str]); 5] = [
    ("span_events", &["span_name"]),
    ("span_links", &["span_name"]),
    ("traces", &[]),
    ("service_edges", &[]),
    ("critical_paths", &[]),
];

/// Replaces aliases of columns throughout a statement.
pub(super) fn resolve_aliases(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            let _ = statement.visit(&mut Queries);
        }
        Statement::Explain(explain) => resolve_aliases(&mut explain.statement),
        _ => {}
    }
}

/// Visits every query, inner ones first.
struct Queries;

impl VisitorMut for Queries {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let shadowed = ctes
            .map(|cte| cte.alias.name.value.to_lowercase())
            .collect();
        let order_by = query.order_by.as_mut();
        resolve_body(&mut query.body, order_by, &shadowed);
        ControlFlow::Continue(())
    }
}

fn resolve_body(body: &mut SetExpr, order_by: Option<&mut OrderBy>, ctes: &HashSet<String>) {
    match body {
        SetExpr::Select(select) => resolve_select(select, order_by, ctes),
        SetExpr::SetOperation { left, right, .. } => {
            resolve_body(left, None, ctes);
            resolve_body(right, None, ctes);
        }
        _ => {}
    }
}

fn resolve_select(select: &mut Select, order_by: Option<&mut OrderBy>, ctes: &HashSet<String>) {
    let scope = Scope::of(&select.from, ctes);
    if scope.qualifiers.is_empty() {
        return;
    }
    let mut given = HashSet::new();
    for item in &select.projection {
        if let SelectItem::ExprWithAlias { alias, .. } = item {
            given.insert(alias.value.to_lowercase());
        }
    }
    let names: Vec<Option<String>> = select.projection.iter().map(last_name).collect();
    for item in &mut select.projection {
        let name = last_name(item);
        let is_unique = names.iter().filter(|other| **other == name).count() == 1;
        resolve_item(item, &scope, is_unique);
    }
    resolve(&mut select.distinct, &scope);
    for table in &mut select.from {
        for join in &mut table.joins {
            resolve(&mut join.join_operator, &scope);
        }
    }
    resolve(&mut select.selection, &scope);
    // A name the query gave itself goes before a column's, but not inside WHERE.
    let own = scope.without(&given);
    resolve(&mut select.group_by, &own);
    resolve(&mut select.having, &own);
    resolve(&mut select.named_window, &own);
    resolve(&mut select.qualify, &own);
    if let Some(OrderBy {
        kind: OrderByKind::Expressions(keys),
        ..
    }) = order_by
    {
        let mut named = given;
        named.extend(select.projection.iter().filter_map(output_name));
        resolve(keys, &scope.without(&named));
    }
}

/// Replaces an alias in the list of results, keeping the name the reader asked for, unless two
/// results would then have the same.
fn resolve_item(item: &mut SelectItem, scope: &Scope, is_unique: bool) {
    let name = match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
        _ => None,
    };
    resolve(item, scope);
    if let (true, Some(name), SelectItem::UnnamedExpr(expr)) = (is_unique, name, &*item)
        && column_of(&name.value).is_some()
        && *expr != Expr::Identifier(name.clone())
        && last_part(expr).is_some_and(|part| part.value != name.value)
    {
        let expr = expr.clone();
        *item = SelectItem::ExprWithAlias { expr, alias: name };
    }
}

fn output_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_lowercase()),
        _ => None,
    }
}

/// The name of the column that an item without a name of its own shows.
fn last_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => last_part(expr).map(|part| part.value.to_lowercase()),
        _ => output_name(item),
    }
}

fn last_part(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    }
}

/// Where an alias may stand in one SELECT.
#[derive(Debug, Clone)]
struct Scope {
    /// The names under which relations with the columns of `spans` are read.
    qualifiers: HashSet<String>,
    /// Names that something else provides, unqualified.
    taken: HashSet<String>,
}

impl Scope {
    fn of(from: &[TableWithJoins], ctes: &HashSet<String>) -> Self {
        let mut scope = Self {
            qualifiers: HashSet::new(),
            taken: HashSet::new(),
        };
        for table in from {
            scope.add(&table.relation, ctes);
            for join in &table.joins {
                scope.add(&join.relation, ctes);
            }
        }
        scope
    }

    fn add(&mut self, relation: &TableFactor, ctes: &HashSet<String>) {
        match relation {
            TableFactor::Table { name, alias, .. } => {
                let bare = bare_name(name);
                if ALIASED.contains(&bare.as_str()) && !ctes.contains(&bare) {
                    let qualifier = alias.as_ref().map(|alias| alias.name.value.to_lowercase());
                    self.qualifiers.insert(qualifier.unwrap_or(bare));
                } else if let Some((_, columns)) =
                    RELATION_COLUMNS.iter().find(|(table, _)| *table == bare)
                {
                    self.taken.extend(columns.iter().map(ToString::to_string));
                } else {
                    // What a CTE or another table holds is not known here: leave every name.
                    self.take_all();
                }
            }
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => {
                self.add(&table_with_joins.relation, ctes);
                for join in &table_with_joins.joins {
                    self.add(&join.relation, ctes);
                }
            }
            _ => self.take_all(),
        }
    }

    fn take_all(&mut self) {
        self.taken
            .extend(COLUMN_ALIASES.iter().map(|(alias, _)| alias.to_string()));
    }

    fn without(&self, names: &HashSet<String>) -> Self {
        let mut scope = self.clone();
        scope.taken.extend(names.iter().cloned());
        scope
    }
}

fn bare_name(name: &ObjectName) -> String {
    let last = name.0.last().and_then(|part| part.as_ident());
    last.map_or_else(String::new, |ident| ident.value.to_lowercase())
}

/// Replaces aliases in the expressions of a node, but not inside subqueries, which have a scope
/// of their own.
fn resolve(node: &mut impl VisitMut, scope: &Scope) {
    let _ = node.visit(&mut Names { scope, depth: 0 });
}

struct Names<'a> {
    scope: &'a Scope,
    depth: usize,
}

impl VisitorMut for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Identifier(name) if !self.scope.taken.contains(&name.value.to_lowercase()) => {
                if let Some(column) = column_of(&name.value) {
                    *name = Ident::new(column);
                }
            }
            Expr::CompoundIdentifier(parts) => {
                if let [.., table, name] = &mut parts[..]
                    && self.scope.qualifiers.contains(&table.value.to_lowercase())
                    && let Some(column) = column_of(&name.value)
                {
                    *name = Ident::new(column);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn column_of(name: &str) -> Option<&'static str> {
    let alias = COLUMN_ALIASES
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    alias.map(|(_, column)| *column)
}

#[cfg(test)]
mod tests {
    use super::super::Session;
    use super::*;

    fn resolved(sql: &str) -> String {
        let mut statement = datafusion::sql::parser::DFParser::parse_sql(sql).unwrap();
        let mut statement = statement.pop_front().unwrap();
        resolve_aliases(&mut statement);
        assert!(Session::statements(sql).is_ok());
        statement.to_string()
    }

    #[test]
    fn aliases_become_columns_and_keep_their_name_in_the_result() {
        for (sql, expected) in [
            (
                "SELECT span_name FROM spans WHERE duration > 5 ORDER BY timestamp DESC",
                "SELECT name AS span_name FROM spans WHERE duration_nano > 5 ORDER BY start_time DESC",
            ),
            (
                "SELECT s.span_kind, count(*) FROM spans AS s GROUP BY s.span_kind",
                "SELECT s.kind AS span_kind, count(*) FROM spans AS s GROUP BY s.kind",
            ),
            (
                "SELECT max(duration) FROM spans WHERE trace_id IN (SELECT trace_id FROM spans WHERE span_name = 'x')",
                "SELECT max(duration_nano) FROM spans WHERE trace_id IN (SELECT trace_id FROM spans WHERE name = 'x')",
            ),
        ] {
            assert_eq!(resolved(sql), expected);
        }
    }

    #[test]
    fn a_query_s_own_names_are_left_alone() {
        for sql in [
            "SELECT duration FROM (SELECT end_time - start_time AS duration FROM spans)",
            "WITH spans AS (SELECT 1 AS duration) SELECT duration FROM spans",
            "SELECT x.timestamp FROM x",
            "SELECT duration_nano / 1000 AS duration FROM spans ORDER BY duration",
            "SELECT name AS span_name, count(*) FROM spans GROUP BY span_name",
            "SELECT span_name FROM span_events",
        ] {
            assert_eq!(resolved(sql), sql);
        }
    }
}
