//! The promise that SQL is stable: every table, column, type and function that tracelake adds,
//! against the text in `surface.txt`.
//!
//! What is added shows in a diff of that file, and so does what would break somebody's query.
//! `TRACELAKE_UPDATE_SURFACE=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::Documentation;
use tracelake::engine::{Session, Source};
use tracelake::functions;
use tracelake::span::COLUMN_ALIASES;
use tracelake::{Config, Lake};

use super::lakes::rows;

async fn session() -> Session {
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    lake.session().await.unwrap()
}

async fn tables(session: &Session, out: &mut String) {
    let sql = "SELECT table_name, table_type FROM information_schema.tables \
               WHERE table_schema = 'public' ORDER BY table_name";
    for table in rows(session, sql).await {
        let [name, kind] = &table[..] else {
            panic!("two columns");
        };
        writeln!(out, "{} {name}", kind.to_lowercase()).unwrap();
        let provider = session.context().table_provider(name.as_str()).await;
        for field in provider.unwrap().schema().fields() {
            let null = if field.is_nullable() { "" } else { " not null" };
            writeln!(out, "    {} {}{null}", field.name(), field.data_type()).unwrap();
        }
        out.push('\n');
    }
}

fn function(kind: &str, name: &str, documentation: Option<&Documentation>, out: &mut String) {
    let documentation = documentation.unwrap_or_else(|| panic!("{name} has no documentation"));
    writeln!(out, "{kind} {name}").unwrap();
    writeln!(out, "    {}", documentation.syntax_example).unwrap();
    for (argument, _) in documentation.arguments.iter().flatten() {
        writeln!(out, "    - {argument}").unwrap();
    }
    out.push('\n');
}

async fn surface() -> String {
    let session = session().await;
    let mut out = String::new();
    tables(&session, &mut out).await;
    for (alias, column) in COLUMN_ALIASES {
        writeln!(out, "alias {alias} = spans.{column}").unwrap();
    }
    out.push('\n');
    for scalar in functions::scalar::all() {
        function(
            "scalar function",
            scalar.name(),
            scalar.documentation(),
            &mut out,
        );
        writeln!(out, "    {}\n", scalar.signature().type_signature).unwrap();
    }
    for aggregate in functions::aggregate::all() {
        function(
            "aggregate function",
            aggregate.name(),
            aggregate.documentation(),
            &mut out,
        );
    }
    for (name, manual) in functions::table::manuals() {
        function("table function", name, Some(&manual), &mut out);
        let state = session.context().state();
        let table = state.table_functions().get(name);
        assert!(table.is_some(), "{name} is not registered");
        let arguments = manual.arguments.as_deref().unwrap_or_default();
        let is_time = arguments.iter().any(|(name, _)| name == "from");
        let values = match is_time {
            true => ["'2026-11-20'"; 2],
            false => ["'0000000000000001'"; 2],
        };
        let argument_count = arguments.len();
        let optional = manual.syntax_example.matches('[').count();
        // Arguments that are given by name may all be left out.
        let call = match manual.syntax_example.contains("=>") {
            true => String::new(),
            false => values[..argument_count - optional].join(", "),
        };
        let sql = format!("SELECT * FROM {name}({call})");
        let rows = session.query(&sql, &[]).await.unwrap();
        for field in rows.schema().fields() {
            let null = if field.is_nullable() { "" } else { " not null" };
            writeln!(out, "    {} {}{null}", field.name(), field.data_type()).unwrap();
        }
        out.push('\n');
    }
    out
}

#[tokio::test]
async fn every_table_column_and_function_is_as_promised() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/surface.txt");
    let found = surface().await;
    if std::env::var_os("TRACELAKE_UPDATE_SURFACE").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let promised = fs::read_to_string(&path).unwrap();
    let (found, promised): (Vec<_>, Vec<_>) = (found.lines().collect(), promised.lines().collect());
    for (number, (found, promised)) in found.iter().zip(&promised).enumerate() {
        assert_eq!(
            found,
            promised,
            "line {} of tests/it/surface.txt promises something else; if that is meant, run \
             this test with TRACELAKE_UPDATE_SURFACE=1 and say so in the commit",
            number + 1
        );
    }
    assert_eq!(found.len(), promised.len(), "lines of tests/it/surface.txt");
}

#[tokio::test]
async fn a_session_has_datafusion_s_functions_and_those_promised() {
    let session = session().await;
    let state = session.context().state();
    let mut ours = BTreeSet::new();
    ours.extend(
        functions::scalar::all()
            .iter()
            .map(|f| f.name().to_string()),
    );
    ours.extend(
        functions::aggregate::all()
            .iter()
            .map(|f| f.name().to_string()),
    );
    let mut known = BTreeSet::new();
    for function in SessionStateDefaults::default_scalar_functions() {
        known.insert(function.name().to_string());
        known.extend(function.aliases().iter().cloned());
    }
    for function in SessionStateDefaults::default_aggregate_functions() {
        known.insert(function.name().to_string());
        known.extend(function.aliases().iter().cloned());
    }
    let registered: BTreeSet<String> = state
        .scalar_functions()
        .keys()
        .chain(state.aggregate_functions().keys())
        .cloned()
        .collect();
    // `quantile_cont` is DataFusion's other name for `percentile_cont`; ours takes its place.
    let shadowed: BTreeSet<&String> = ours.intersection(&known).collect();
    assert_eq!(shadowed, BTreeSet::from([&"quantile_cont".to_string()]));
    let missing: BTreeSet<&String> = ours.difference(&registered).collect();
    assert!(missing.is_empty(), "{missing:?} are not registered");
    let unknown: BTreeSet<String> = registered.difference(&known).cloned().collect();
    let unknown: BTreeSet<&String> = unknown.difference(&ours).collect();
    assert!(unknown.is_empty(), "{unknown:?} are registered elsewhere");
}

/// An example is a statement and, from the first line of `+---+` on, its result.
async fn check_example(session: &Session, name: &str, documentation: Option<&Documentation>) {
    let documentation = documentation.unwrap_or_else(|| panic!("{name} has no documentation"));
    assert!(!documentation.description.is_empty(), "{name}");
    assert!(
        documentation.syntax_example.contains(name),
        "{name}: {}",
        documentation.syntax_example
    );
    let arguments = documentation.arguments.as_ref().map_or(0, Vec::len);
    assert!(arguments > 0, "{name} documents its arguments");
    let example = documentation.sql_example.as_deref();
    let example = example.unwrap_or_else(|| panic!("{name} has no example"));
    let lines = example.lines().filter(|line| !line.starts_with("```"));
    let (mut sql, mut shown) = (Vec::new(), Vec::new());
    for line in lines {
        if line.starts_with('+') || !shown.is_empty() {
            shown.push(line.trim_end());
        } else {
            sql.push(line.trim_start_matches("> "));
        }
    }
    assert!(sql.join("\n").contains(name), "{name}'s example calls it");
    let stream = session.query(&sql.join("\n"), &[]).await.unwrap();
    let batches = stream.collect().await.unwrap();
    let found = arrow::util::pretty::pretty_format_batches(&batches).unwrap();
    assert!(
        !shown.is_empty(),
        "{name}'s example shows its result, which is\n{found}"
    );
    assert_eq!(found.to_string(), shown.join("\n"), "{name}'s example");
}

#[tokio::test]
async fn every_function_has_a_manual_whose_example_runs() {
    let session = session().await;
    for scalar in functions::scalar::all() {
        check_example(&session, scalar.name(), scalar.documentation()).await;
    }
    for aggregate in functions::aggregate::all() {
        check_example(&session, aggregate.name(), aggregate.documentation()).await;
    }
}

#[tokio::test]
async fn every_table_function_has_a_manual_whose_example_runs() {
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/otlp/collector.jsonl");
    let source = Source::path(data);
    lake.ingest(vec![source], Default::default()).await.unwrap();
    let session = lake.session().await.unwrap();
    for (name, manual) in functions::table::manuals() {
        check_example(&session, name, Some(&manual)).await;
        let slt = format!("tests/slt/functions/{name}.slt");
        let slt = Path::new(env!("CARGO_MANIFEST_DIR")).join(slt);
        assert!(slt.is_file(), "{name} has a test of its rows");
    }
}

#[tokio::test]
async fn the_readme_tells_of_every_relation_function_and_argument() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let mut missing = Vec::new();
    let mut tell = |what: String| {
        if !readme.contains(&what) {
            missing.push(what);
        }
    };
    let session = session().await;
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    for table in rows(&session, sql).await {
        tell(format!("`{}`", table[0]));
    }
    for (alias, _) in COLUMN_ALIASES {
        tell(format!("`{alias}`"));
    }
    for function in functions::scalar::all() {
        tell(format!("`{}(", function.name()));
    }
    for function in functions::aggregate::all() {
        tell(format!("`{}(", function.name()));
    }
    for (name, manual) in functions::table::manuals() {
        let is_named = manual.syntax_example.contains("=>");
        tell(if is_named {
            format!("`{name}`")
        } else {
            format!("`{name}(")
        });
        // Arguments by name have a table; others may be left out where they stand in brackets.
        for (argument, _) in manual.arguments.iter().flatten() {
            if is_named {
                tell(format!("`{argument}`"));
            } else if manual.syntax_example.contains(&format!("[, {argument}")) {
                tell(argument.clone());
            }
        }
    }
    assert!(missing.is_empty(), "README.md does not tell of {missing:?}");
}
