//! What a session knows by name: its tables, columns and functions, asked for in SQL.
//!
//! Read [`Catalog`]. All of it comes from `information_schema`, so what is registered with the
//! session is known here without being listed again.

use super::execution::texts;
use super::parameter::{self, Parameter};
use crate::Result;
use crate::engine::Session;

/// Tables and views, as `\d` lists them.
pub(crate) const TABLES: &str = "SELECT table_name AS name, lower(table_type) AS type \
    FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY name";

/// The columns of `$table`, as `\d NAME` lists them.
pub(crate) const COLUMNS: &str = "SELECT column_name AS \"column\", data_type AS type, \
    is_nullable AS nullable FROM information_schema.columns \
    WHERE table_name = $table AND table_schema = $schema ORDER BY ordinal_position";

/// Functions whose names match `$pattern`, as `\df` lists them.
pub(crate) const FUNCTIONS: &str = "SELECT routine_name AS function, \
    lower(min(function_type)) AS type, min(syntax_example) AS syntax \
    FROM information_schema.routines WHERE routine_name LIKE $pattern ESCAPE '\\' \
    GROUP BY routine_name \
    UNION ALL SELECT name, 'table', syntax FROM table_functions \
    WHERE name LIKE $pattern ESCAPE '\\' ORDER BY function";

const MANUAL: &str = "SELECT routine_name, min(syntax_example), min(description), '' \
    FROM information_schema.routines WHERE routine_name LIKE $pattern ESCAPE '\\' \
    GROUP BY routine_name \
    UNION ALL SELECT name, syntax, description, example FROM table_functions \
    WHERE name LIKE $pattern ESCAPE '\\' LIMIT 2";

/// A table or view and its columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
}

/// What can be completed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) tables: Vec<Table>,
    pub(crate) functions: Vec<String>,
}

impl Catalog {
    /// What `session` knows now.
    pub(crate) async fn load(session: &Session) -> Result<Self> {
        let columns = "SELECT table_name, column_name FROM information_schema.columns \
            WHERE table_schema <> 'information_schema' ORDER BY table_name, ordinal_position";
        let mut tables: Vec<Table> = Vec::new();
        for row in texts(session, columns, &[]).await? {
            let [name, column] = row.as_slice() else {
                continue;
            };
            match tables.last_mut() {
                Some(table) if table.name == *name => table.columns.push(column.clone()),
                _ => tables.push(Table {
                    name: name.clone(),
                    columns: vec![column.clone()],
                }),
            }
        }
        let functions = "SELECT routine_name FROM information_schema.routines \
            UNION SELECT name FROM table_functions ORDER BY routine_name";
        let functions = texts(session, functions, &[]).await?;
        Ok(Self {
            tables,
            functions: functions.into_iter().flatten().collect(),
        })
    }
}

/// The placeholders of [`COLUMNS`] for a table, which may have its schema's name before it.
pub(crate) fn table_parameters(table: &str) -> Vec<Parameter> {
    let (schema, name) = table.rsplit_once('.').unwrap_or(("public", table));
    let folded = |name: &str| match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(quoted) => quoted.to_string(),
        None => name.to_lowercase(),
    };
    vec![
        parameter::text("table", &folded(name)),
        parameter::text("schema", &folded(schema)),
    ]
}

/// The placeholder of [`FUNCTIONS`]: `*` stands for any text, and nothing else is special.
pub(crate) fn function_parameters(pattern: Option<&str>) -> Vec<Parameter> {
    let pattern = pattern.unwrap_or("*").trim_end_matches("()").to_lowercase();
    let mut like = String::with_capacity(pattern.len() + 4);
    for character in pattern.chars() {
        match character {
            '*' => like.push('%'),
            '%' | '_' | '\\' => like.extend(['\\', character]),
            other => like.push(other),
        }
    }
    vec![parameter::text("pattern", &like)]
}

/// The manual of the one function that matches; `None` if several do, or none.
pub(crate) async fn manual(session: &Session, pattern: &str) -> Result<Option<String>> {
    let rows = texts(session, MANUAL, &function_parameters(Some(pattern))).await?;
    let [row] = rows.as_slice() else {
        return Ok(None);
    };
    let [name, syntax, description, example] = row.as_slice() else {
        return Ok(None);
    };
    let syntax = if syntax.is_empty() { name } else { syntax };
    let parts = [syntax, description.trim(), example.trim()];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    Ok(Some(parts.collect::<Vec<&str>>().join("\n\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(parameters: Vec<Parameter>) -> Vec<String> {
        let values = parameters.into_iter();
        values.map(|(_, value)| value.to_string()).collect()
    }

    #[test]
    fn patterns_become_like_with_underscores_taken_as_they_are() {
        for (pattern, like) in [
            (None, "%"),
            (Some("Date_*"), r"date\_%"),
            (Some("abs()"), "abs"),
            (Some("50%"), r"50\%"),
        ] {
            assert_eq!(values(function_parameters(pattern)), [like]);
        }
    }

    #[test]
    fn table_names_fold_as_sql_folds_them() {
        assert_eq!(values(table_parameters("Spans")), ["spans", "public"]);
        assert_eq!(
            values(table_parameters("information_schema.Tables")),
            ["tables", "information_schema"]
        );
        assert_eq!(values(table_parameters("\"Odd\"")), ["Odd", "public"]);
    }
}
