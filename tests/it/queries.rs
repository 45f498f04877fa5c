//! The ready queries of `queries/`: each opens with what it is for, runs and finds something.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use tracelake::Lake;

use super::lakes::{fill_with_workload, small_files, value};

/// What the comments at the head of a file say.
#[derive(Default)]
struct Header {
    title: String,
    question: String,
    uses: String,
    parameters: Vec<(String, String)>,
}

impl Header {
    fn read(sql: &str) -> Self {
        let mut header = Self::default();
        for line in sql.lines().take_while(|line| line.starts_with("--")) {
            let Some((key, text)) = line.trim_start_matches("--").split_once(':') else {
                continue;
            };
            let text = text.trim().to_string();
            match key.trim() {
                "title" => header.title = text,
                "question" => header.question = text,
                "uses" => header.uses = text,
                "param" => {
                    let (name, default) = text.split_once('=').expect("-- param: name=default");
                    header
                        .parameters
                        .push((name.to_string(), default.to_string()));
                }
                _ => {}
            }
        }
        header
    }
}

fn queries() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries");
    let mut queries: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // What is made for other programs is tested with them.
        .filter(|path| !path.is_dir())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name.ends_with(".sql"), "{name}");
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    queries.sort();
    assert!(queries.len() > 10);
    queries
}

/// The names that stand after `$` in a text.
fn placeholders(sql: &str) -> BTreeSet<String> {
    let code = sql.lines().filter(|line| !line.starts_with("--"));
    let code: Vec<&str> = code.collect();
    let code = code.join("\n");
    let names = code.split('$').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_string()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_query_says_what_it_is_for() {
    for (name, sql) in queries() {
        let header = Header::read(&sql);
        assert!(!header.title.is_empty(), "{name}: -- title:");
        assert!(header.question.ends_with('?'), "{name}: -- question:");
        assert!(!header.uses.is_empty(), "{name}: -- uses:");
        let declared: BTreeSet<String> = header.parameters.into_iter().map(|(n, _)| n).collect();
        assert_eq!(declared, placeholders(&sql), "{name}: -- param:");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_runs_and_finds_something() {
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    fill_with_workload(&lake).await;
    lake.compact(Arc::new(|_| {})).await.unwrap();
    let session = lake.session().await.unwrap();
    let some_trace = value(&session, "SELECT max(trace_id) FROM spans").await;
    let mut failures = Vec::new();
    for (name, sql) in queries() {
        let mut parameters = Vec::new();
        for (key, default) in Header::read(&sql).parameters {
            let text = if key == "trace_id" {
                some_trace.clone()
            } else {
                default
            };
            let value = match text.parse() {
                Ok(number) => ScalarValue::Int64(Some(number)),
                Err(_) => ScalarValue::Utf8(Some(text)),
            };
            parameters.push((key, value));
        }
        let batches = match session.query(&sql, &parameters).await {
            Ok(stream) => stream.collect().await,
            Err(error) => Err(error),
        };
        match batches {
            Ok(batches) if batches.iter().all(|batch| batch.num_rows() == 0) => {
                failures.push(format!("{name} finds nothing"));
            }
            Ok(_) => {}
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
