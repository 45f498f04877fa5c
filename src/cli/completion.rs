//! What the Tab key offers at the prompt.
//!
//! Read [`complete`]. It looks at the words before the cursor and does not parse SQL.

use std::collections::BTreeSet;

use super::catalog::Catalog;
use super::prompt_command;

/// The words of SQL people type at a prompt.
pub(crate) const KEYWORDS: [&str; 92] = [
    "ALL",
    "ANALYZE",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "CASE",
    "CAST",
    "COPY",
    "CREATE",
    "CROSS",
    "CURRENT_DATE",
    "CURRENT_TIMESTAMP",
    "DATE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "ELSE",
    "END",
    "ESCAPE",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FIRST",
    "FOLLOWING",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPING",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NATURAL",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "QUALIFY",
    "RANGE",
    "RECURSIVE",
    "RIGHT",
    "ROLLUP",
    "ROW",
    "ROWS",
    "SELECT",
    "SET",
    "SETS",
    "SHOW",
    "SIMILAR",
    "TABLE",
    "THEN",
    "TIMESTAMP",
    "TO",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "UNNEST",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Words after which the name of a table stands.
const BEFORE_TABLES: [&str; 6] = ["FROM", "JOIN", "TABLE", "DESCRIBE", "INTO", "VIEW"];

/// What could stand at the cursor instead of the word it ends, and where that word begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) start: usize,
    pub(crate) words: Vec<String>,
}

/// What could stand at byte `cursor` of `text`.
pub(crate) fn complete(text: &str, cursor: usize, catalog: &Catalog) -> Completion {
    let before = text.get(..cursor).unwrap_or(text);
    let start = before.rfind(|c: char| !is_word(c)).map_or(0, |last| {
        last + before[last..].chars().next().map_or(1, char::len_utf8)
    });
    let prefix = &before[start..];
    let line_start = before.trim_start();
    if line_start.starts_with('\\') {
        return complete_command(before, start, prefix, catalog);
    }
    if inside_quotes(before) {
        return Completion::default();
    }
    let before_word = before[..start].trim_end();
    if let Some(qualifier) = before[..start].strip_suffix('.') {
        let columns = qualified_columns(text, last_word(qualifier), catalog);
        return matching(start, prefix, columns);
    }
    let tables = catalog.tables.iter().map(|table| table.name.as_str());
    let previous = last_word(before_word).to_ascii_uppercase();
    if BEFORE_TABLES.contains(&previous.as_str()) {
        return matching(start, prefix, tables);
    }
    if prefix.is_empty() {
        return Completion {
            start,
            words: Vec::new(),
        };
    }
    let mentioned = mentioned_columns(text, catalog);
    let functions = catalog.functions.iter().map(String::as_str);
    let mut completion = matching(start, prefix, mentioned.chain(functions).chain(tables));
    completion.words.extend(keywords(prefix));
    completion
}

fn complete_command(before: &str, start: usize, prefix: &str, catalog: &Catalog) -> Completion {
    let command = before.trim_start();
    match command.split_once(char::is_whitespace) {
        None => {
            let start = before.len() - command.len();
            matching(start, command, prompt_command::NAMES)
        }
        Some((r"\d", _)) => {
            let tables = catalog.tables.iter().map(|table| table.name.as_str());
            matching(start, prefix, tables)
        }
        Some((r"\df", _)) => matching(start, prefix, catalog.functions.iter().map(String::as_str)),
        Some((r"\timing", _)) => matching(start, prefix, ["on", "off"]),
        Some((r"\x", _)) => matching(start, prefix, ["on", "off", "auto"]),
        Some(_) => Completion::default(),
    }
}

/// The names that begin with `prefix`, sorted, each once.
fn matching<'a>(
    start: usize,
    prefix: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Completion {
    let prefix = prefix.to_lowercase();
    let words: BTreeSet<&str> = names
        .into_iter()
        .filter(|name| name.to_lowercase().starts_with(&prefix))
        .collect();
    Completion {
        start,
        words: words.into_iter().map(str::to_string).collect(),
    }
}

/// Keywords in the case the person began to type them in.
fn keywords(prefix: &str) -> impl Iterator<Item = String> {
    let lower = prefix.chars().any(char::is_lowercase);
    let prefix = prefix.to_ascii_uppercase();
    KEYWORDS
        .iter()
        .filter(move |keyword| keyword.starts_with(&prefix))
        .map(move |keyword| {
            if lower {
                keyword.to_ascii_lowercase()
            } else {
                (*keyword).to_string()
            }
        })
}

/// The columns of the tables a statement names; of all tables as long as it names none.
fn mentioned_columns<'a>(
    text: &str,
    catalog: &'a Catalog,
) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    let words: BTreeSet<String> = text
        .split(|c: char| !is_word(c))
        .map(str::to_lowercase)
        .collect();
    let any = catalog
        .tables
        .iter()
        .any(|table| words.contains(&table.name));
    Box::new(
        catalog
            .tables
            .iter()
            .filter(move |table| !any || words.contains(&table.name))
            .flat_map(|table| &table.columns)
            .map(String::as_str),
    )
}

/// The columns that may follow `qualifier.`: a table's own, or those of the table it stands for.
fn qualified_columns<'a>(text: &str, qualifier: &str, catalog: &'a Catalog) -> Vec<&'a str> {
    let qualifier = qualifier.to_lowercase();
    let words: Vec<String> = text
        .split(|c: char| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    // `spans s` and `spans AS s`.
    let aliased = words.windows(3).find_map(|window| match window {
        [table, next, _] if *next == qualifier => Some(table),
        [table, between, next] if between == "as" && *next == qualifier => Some(table),
        _ => None,
    });
    let aliased = aliased.or_else(|| match words.as_slice() {
        [.., table, next] if *next == qualifier => Some(table),
        _ => None,
    });
    let columns_of = |name: &str| {
        let table = catalog.tables.iter().find(|table| table.name == name);
        table.map(|table| table.columns.iter().map(String::as_str).collect())
    };
    columns_of(&qualifier)
        .or_else(|| columns_of(aliased?))
        .unwrap_or_else(|| mentioned_columns(text, catalog).collect())
}

fn inside_quotes(before: &str) -> bool {
    super::statement::split(before).open
}

fn last_word(text: &str) -> &str {
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, c)| is_word(*c))
        .last()
        .map_or(text.len(), |(position, _)| position);
    &text[start..]
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Table;
    use super::*;

    fn catalog() -> Catalog {
        let table = |name: &str, columns: &[&str]| Table {
            name: name.to_string(),
            columns: columns.iter().map(ToString::to_string).collect(),
        };
        Catalog {
            tables: vec![
                table("lake_files", &["path", "size"]),
                table("spans", &["service_name", "span_id", "start_time"]),
            ],
            functions: vec!["abs".to_string(), "starts_with".to_string()],
        }
    }

    fn words(text: &str) -> Vec<String> {
        complete(text, text.len(), &catalog()).words
    }

    #[test]
    fn tables_follow_from_and_join() {
        assert_eq!(words("SELECT * FROM "), ["lake_files", "spans"]);
        assert_eq!(words("SELECT * FROM spans JOIN la"), ["lake_files"]);
        assert_eq!(words(r"\d sp"), ["spans"]);
    }

    #[test]
    fn columns_are_those_of_the_tables_named() {
        assert_eq!(
            words("SELECT * FROM spans WHERE span"),
            ["span_id", "spans"]
        );
        assert_eq!(words("SELECT * FROM spans WHERE pat"), Vec::<String>::new());
        assert_eq!(
            words("SELECT * FROM spans s JOIN lake_files f ON f."),
            ["path", "size"]
        );
        assert_eq!(
            words("SELECT * FROM spans AS s WHERE s.ser"),
            ["service_name"]
        );
        assert_eq!(words("SELECT spans.st"), ["start_time"]);
    }

    #[test]
    fn the_whole_statement_counts_not_only_what_is_before_the_cursor() {
        let text = "SELECT si FROM lake_files";
        let completion = complete(text, 9, &catalog());
        assert_eq!(completion.start, 7);
        assert!(completion.words.contains(&"size".to_string()));
    }

    #[test]
    fn keywords_keep_the_case_they_are_typed_in() {
        assert!(words("SEL").contains(&"SELECT".to_string()));
        assert!(words("sel").contains(&"select".to_string()));
        assert_eq!(words("SELECT AB"), ["abs"]);
    }

    #[test]
    fn nothing_is_offered_inside_quotes_or_without_a_word() {
        assert_eq!(words("SELECT 'sel"), Vec::<String>::new());
        assert_eq!(words("SELECT "), Vec::<String>::new());
    }

    #[test]
    fn commands_of_the_prompt_are_completed() {
        assert_eq!(words(r"\ti"), [r"\timing"]);
        assert_eq!(words(r"\x o"), ["off", "on"]);
    }

    #[test]
    fn no_cursor_makes_it_panic() {
        let text = "sélect 'größe' from späns wo ä";
        for cursor in 0..=text.len() + 1 {
            complete(text, cursor, &catalog());
        }
    }

    #[test]
    fn keywords_are_sorted_and_single() {
        assert!(KEYWORDS.is_sorted_by(|a, b| a < b));
    }
}
