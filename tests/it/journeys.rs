//! Journeys of one person at the command line: files in, rows out, the lake kept in shape.

use std::io::Write;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value as Json;

use super::sandbox::{Sandbox, numbered_spans, succeeded, text, trace_id};

/// A lake of the spans `0..count`.
fn with_spans(count: u64) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("spans.jsonl", numbered_spans(0..count));
    sandbox.ok(&["ingest", "spans.jsonl"]);
    sandbox
}

const NAMES: &str = "SELECT name, CAST(attributes['number'] AS BIGINT) AS number, parent_span_id \
                     FROM spans ORDER BY name LIMIT 2";

#[test]
fn rows_come_in_every_text_format() {
    let sandbox = with_spans(40);
    let output = |format: &str| sandbox.ok(&["query", "--output", format, "-c", NAMES]);
    assert_eq!(
        output("csv"),
        "name,number,parent_span_id\nspan 000000,0,\nspan 000001,1,0000000000000001\n"
    );
    assert_eq!(
        output("ndjson"),
        "{\"name\":\"span 000000\",\"number\":0,\"parent_span_id\":null}\n\
         {\"name\":\"span 000001\",\"number\":1,\"parent_span_id\":\"0000000000000001\"}\n"
    );
    let json: Json = serde_json::from_str(&output("json")).unwrap();
    assert_eq!(json[1]["number"], 1);
    let table = output("table");
    assert!(table.contains("span 000001"), "{table}");
    assert!(table.contains("(2 rows)"), "{table}");
}

/// Asserts that batches hold the two rows of [`NAMES`].
fn assert_names(batches: &[RecordBatch]) {
    let numbers: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            batch
                .column(1)
                .as_primitive::<Int64Type>()
                .values()
                .to_vec()
        })
        .collect();
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn binary_formats_are_read_by_their_libraries() {
    let sandbox = with_spans(40);
    for output in [
        &["--output", "parquet"][..],
        &["--output-file", "names.parquet"],
    ] {
        let to_file = output[0] == "--output-file";
        let result = sandbox.run(&[&["query", "-c", NAMES], output].concat());
        assert_eq!(result.status.code(), Some(0), "{}", text(&result.stderr));
        if !to_file {
            std::fs::write(sandbox.path("names.parquet"), &result.stdout).unwrap();
        }
        let file = std::fs::File::open(sandbox.path("names.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        assert_names(&reader.collect::<Result<Vec<_>, _>>().unwrap());
        std::fs::remove_file(sandbox.path("names.parquet")).unwrap();
    }
    let stream = sandbox
        .run(&["query", "--output", "arrow", "-c", NAMES])
        .stdout;
    let reader = StreamReader::try_new(stream.as_slice(), None).unwrap();
    assert_names(&reader.collect::<Result<Vec<_>, _>>().unwrap());
    sandbox.ok(&["query", "--output-file", "names.arrow", "-c", NAMES]);
    let file = std::fs::File::open(sandbox.path("names.arrow")).unwrap();
    let reader = FileReader::try_new(file, None).unwrap();
    assert_names(&reader.collect::<Result<Vec<_>, _>>().unwrap());
}

#[test]
fn whole_rows_fit_every_format() {
    let sandbox = with_spans(40);
    for format in ["table", "csv", "json", "ndjson", "parquet", "arrow"] {
        let output = sandbox.run(&["query", "--output", format, "-c", "SELECT * FROM spans"]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{format}: {}",
            text(&output.stderr)
        );
        assert!(output.stdout.len() > 1_000, "{format}");
    }
}

#[test]
fn parameters_have_the_type_they_are_written_in() {
    let sandbox = with_spans(40);
    let trace = format!("id={}", trace_id(3).to_uppercase());
    let found = sandbox.ok(&[
        "query",
        "--output",
        "csv",
        "--param",
        &trace,
        "--param",
        "least=13",
        "-c",
        "SELECT count(*) AS n FROM spans WHERE trace_id = $id AND attributes['number'] >= $least",
    ]);
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["n", "3"]);
    let typed = sandbox.ok(&[
        "query",
        "--output",
        "csv",
        "--param",
        "x:text=042",
        "--param",
        "y=true",
        "-c",
        "SELECT $x AS x, $y AS y",
    ]);
    assert_eq!(typed.split_whitespace().last(), Some("042,true"));
    let missing = sandbox.run(&["query", "-c", "SELECT * FROM spans WHERE name = $nobody"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn statements_run_in_order_and_stop_at_the_first_that_fails() {
    let sandbox = with_spans(8);
    let script = "SELECT 1 AS one; -- a comment; with a semicolon\nSELECT ';' AS two;\n";
    sandbox.write("script.sql", script);
    let output = sandbox.run(&["query", "--timing", "--output", "csv", "-f", "script.sql"]);
    let times = text(&output.stderr);
    let out = succeeded(output, "two statements");
    assert_eq!(
        out.split_whitespace().collect::<Vec<_>>(),
        ["one", "1", "two", ";"]
    );
    for number in [1, 2] {
        let start = format!("statement {number}: 1 row in ");
        assert!(
            times.lines().any(|line| line.starts_with(&start)),
            "{times}"
        );
    }

    let input = b"SELECT 1 AS one;\nSELECT nowhere FROM spans;\nSELECT 3 AS three";
    let output = sandbox.run_with_input(&["query", "--output", "csv", "-"], input);
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stdout).contains("three"));
    assert!(text(&output.stderr).contains("nowhere"));
}

#[test]
fn sql_that_is_wrong_ends_with_2_and_says_what() {
    let sandbox = with_spans(8);
    for (sql, part) in [
        ("SELEKT 1", "SELEKT"),
        ("SELECT nmae FROM spans", "nmae"),
        ("SELECT * FROM spams", "spams"),
        ("SELECT * FROM spans WHERE trace_id = 'xyz'", "xyz"),
        ("SELECT 1 / 0", "ivide"),
    ] {
        let output = sandbox.run(&["query", "-c", sql]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{sql}: {message}");
        assert!(message.contains(part), "{sql}: {message}");
        assert!(!message.contains("panicked"), "{sql}: {message}");
    }
    sandbox.run(&[
        "query",
        "--output-file",
        "no.csv",
        "-c",
        "SELECT 1; SELECT nmae FROM spans",
    ]);
    assert!(!sandbox.path("no.csv").exists(), "half a result appeared");
}

#[test]
fn a_query_over_the_memory_limit_ends_with_5_and_the_prompt_goes_on() {
    let sandbox = with_spans(2_000);
    let sort = "SELECT * FROM spans ORDER BY attributes, name";
    let output = sandbox.run(&["--memory-limit", "1MiB", "query", "-c", sort]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));

    let lines = format!("{sort};\nSELECT 'still here' AS answer;\n");
    let output = sandbox.run_with_input(&["--memory-limit", "1MiB", "sql"], lines.as_bytes());
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stdout).contains("still here"));
    assert!(text(&output.stderr).contains("error: "));
}

#[test]
fn the_prompt_reads_commands_and_statements_from_a_pipe() {
    let sandbox = with_spans(8);
    sandbox.write("more.sql", "\\x off\nSELECT 'from a file' AS here;\n");
    let script = "\\d\n\\d spans\n\\df quantile*\n\\x\nSELECT 'tall' AS shape;\n\\i more.sql\n\
                  \\o out.csv\nSELECT name FROM spans\n ORDER BY name LIMIT 1;\n\\o\n\
                  \\timing\nSELECT 'last' AS one\n";
    let output = sandbox.run_with_input(&["sql"], script.as_bytes());
    let notes = text(&output.stderr);
    let shown = succeeded(output, "the prompt");
    for part in [
        "span_events",
        "lake_files",
        "parent_span_id",
        "quantile_cont(",
        "from a file",
        "last",
        "row 1",
    ] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    assert!(notes.contains("Time: "), "{notes}");
    let file = sandbox.read("out.csv");
    assert_eq!(file.lines().collect::<Vec<_>>(), ["name", "span 000000"]);
    assert!(!shown.contains("span 000000"), "it went to the file");

    let script = b"\\nonsense\nSELECT 'after' AS x;\n\\q\nSELECT 'never' AS x;\n";
    let output = sandbox.run_with_input(&["sql"], script);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("after") && !shown.contains("never"),
        "{shown}"
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn ingest_takes_globs_directories_standard_input_and_compressed_files() {
    let sandbox = Sandbox::new();
    let part = |index: u64| numbered_spans(index * 100..(index + 1) * 100).into_bytes();
    sandbox.write("in/a.jsonl", part(0));
    sandbox.write("in/deep/er/b.jsonl.gz", gzip(&part(1)));
    sandbox.write(
        "in/deep/c.jsonl.zst",
        zstd::encode_all(part(2).as_slice(), 1).unwrap(),
    );
    sandbox.write("in/notes.md", "not a trace");
    sandbox.write("in/.hidden.jsonl", part(9));
    sandbox.write("glob/d1.json", part(3));
    sandbox.write("glob/d2.json", part(4));
    sandbox.write("glob/other.txt", part(9));

    let report = |out: String| -> Json { serde_json::from_str(&out).unwrap() };
    let first = report(sandbox.ok(&["ingest", "--json", "in"]));
    assert_eq!(first["span_count"], 300);
    assert_eq!(first["source_count"], 3);
    assert_eq!(first["rejection_count"], 0);
    let second = report(sandbox.ok(&["ingest", "--json", "glob/d*.json"]));
    assert_eq!(
        (&second["span_count"], &second["trace_count"]),
        (&200.into(), &50.into())
    );
    for (index, bytes) in [part(5), gzip(&part(6))].iter().enumerate() {
        let output = sandbox.run_with_input(&["ingest", "--json", "-"], bytes);
        let third = report(succeeded(output, index));
        assert_eq!(third["span_count"], 100);
    }
    let counts = "SELECT count(DISTINCT name) FROM spans";
    assert_eq!(sandbox.number(counts), 700);
    assert_eq!(sandbox.number("SELECT count(*) FROM spans"), 700);
}

#[test]
fn what_is_skipped_is_reported_with_file_and_line() {
    let sandbox = Sandbox::new();
    let good = numbered_spans(0..3);
    let mut lines: Vec<&str> = good.lines().collect();
    lines.insert(1, "{\"resourceSpans\": [{");
    sandbox.write("mixed.jsonl", lines.join("\n"));
    let output = sandbox.run(&["ingest", "mixed.jsonl"]);
    let notes = text(&output.stderr);
    let summary = succeeded(output, "ingest");
    assert!(notes.contains("mixed.jsonl: line 2"), "{notes}");
    assert!(summary.contains("ingested 3 spans"), "{summary}");

    let bad = "neither\n".repeat(30);
    sandbox.write("bad.jsonl", format!("{good}{bad}"));
    let out = sandbox.ok(&["ingest", "--json", "bad.jsonl"]);
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(report["span_count"], 3);
    assert_eq!(report["rejection_count"], 30);
    let shown = report["rejections"].as_array().unwrap();
    assert_eq!(shown.len(), 20);
    assert_eq!(shown[0]["location"], "line 4");
    assert_eq!(shown[0]["source"], "bad.jsonl");
}

#[test]
fn generated_traces_come_out_as_they_went_in() {
    let sandbox = Sandbox::new();
    let generate = [
        "generate",
        "--spans",
        "3000",
        "--seed",
        "5",
        "--start",
        "2026-11-20T10:00:00Z",
    ];
    sandbox.ok(&[&["--lake", "straight"], &generate[..]].concat());
    for file in ["traces.pb", "traces.jsonl"] {
        sandbox.ok(&[&generate[..], &["--otlp", file]].concat());
        sandbox.ok(&[
            "--lake",
            file.split('.').next_back().unwrap(),
            "ingest",
            "--strict",
            file,
        ]);
    }
    // Everything but when it was taken in.
    let columns = "SELECT trace_id, span_id, parent_span_id, trace_state, flags, name, kind, \
         start_time, end_time, duration_nano, status_code, status_message, service_name, \
         resource_attributes, scope_name, scope_version, scope_attributes, attributes, events, \
         links, is_root, has_error FROM spans";
    let rows = |lake: &str| {
        let out = sandbox.ok(&["--lake", lake, "query", "--output", "ndjson", "-c", columns]);
        let mut rows: Vec<String> = out.lines().map(str::to_string).collect();
        rows.sort_unstable();
        rows
    };
    let straight = rows("straight");
    assert_eq!(straight.len(), 3_000);
    for lake in ["pb", "jsonl"] {
        let read = rows(lake);
        let different = straight.iter().zip(&read).find(|(one, other)| one != other);
        assert_eq!(different, None, "{lake}");
        assert_eq!(read.len(), 3_000, "{lake}");
    }
}

#[test]
fn the_demo_draws_a_trace_and_ends_without_a_terminal() {
    let sandbox = Sandbox::new();
    let shown = sandbox.ok(&["demo", "--spans", "4000", "--keep", "kept"]);
    assert!(shown.contains("A lake of 4,000 spans"), "{shown}");
    assert!(
        shown.contains("└─") && shown.contains('█'),
        "no trace was drawn:\n{shown}"
    );
    assert!(!shown.contains('\u{1b}'), "colours without a terminal");
    // What was kept is used as it is.
    let again = sandbox.ok(&["demo", "--keep", "kept"]);
    assert!(!again.contains("A lake of"), "{again}");
}

#[test]
fn a_lake_is_described_compacted_expired_and_vacuumed() {
    let sandbox = Sandbox::new();
    for part in 0..3 {
        let file = sandbox.write("part.jsonl", numbered_spans(part * 400..(part + 1) * 400));
        sandbox.ok(&["ingest", &file.display().to_string()]);
    }
    // Sent a second time: exact duplicates.
    sandbox.ok(&["ingest", "part.jsonl"]);
    let info = || -> Json { serde_json::from_str(&sandbox.ok(&["info", "--json"])).unwrap() };
    let before = info();
    assert_eq!(before["span_count"], 1_600);
    assert_eq!(before["level0_file_count"], before["file_count"]);

    let out = sandbox.ok(&["compact", "--json"]);
    let compacted: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(compacted["duplicate_count"], 400);
    let after = info();
    assert_eq!(after["span_count"], 1_200);
    assert_eq!(after["level0_file_count"], 0);
    assert_eq!(after["trace_count"], 300);
    assert!(after["file_count"].as_u64() < before["file_count"].as_u64());
    assert_eq!(
        sandbox.number("SELECT count(DISTINCT name) FROM spans"),
        1_200
    );
    let columns = sandbox.ok(&["info", "--columns"]);
    assert!(
        columns.contains("trace_id") && columns.contains("bytes a span"),
        "{columns}"
    );

    let files = sandbox.data_files("lake").len();
    sandbox.ok(&["vacuum"]);
    assert_eq!(
        sandbox.data_files("lake").len(),
        files,
        "what was just replaced is kept"
    );
    sandbox.ok(&["vacuum", "--older-than", "0s", "--dry-run"]);
    assert_eq!(
        sandbox.data_files("lake").len(),
        files,
        "a dry run deletes nothing"
    );
    sandbox.ok(&["vacuum", "--older-than", "0s"]);
    assert_eq!(
        sandbox.data_files("lake").len() as u64,
        after["file_count"].as_u64().unwrap()
    );
    assert_eq!(sandbox.number("SELECT count(*) FROM spans"), 1_200);

    sandbox.ok(&["expire", "--older-than", "1s"]);
    let empty = info();
    assert!(
        empty["span_count"].as_u64() < after["span_count"].as_u64(),
        "{empty}"
    );
    sandbox.ok(&["vacuum", "--older-than", "0s"]);
    assert_eq!(
        sandbox.data_files("lake").len() as u64,
        empty["file_count"].as_u64().unwrap()
    );
}

#[test]
fn explain_tells_what_was_not_read() {
    let sandbox = with_spans(2_000);
    let sql = format!("SELECT * FROM spans WHERE trace_id = '{}'", trace_id(7));
    let plan = sandbox.ok(&["explain", &sql]);
    for word in ["files", "time", "bucket", "bytes"] {
        assert!(plan.contains(word), "{word} in\n{plan}");
    }
    assert_eq!(sandbox.rows(&sql).len(), 4);
}

#[test]
fn ready_queries_can_be_run_by_name_of_their_files() {
    let sandbox = with_spans(400);
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/red_per_service.sql");
    let file = queries.display().to_string();
    let day = ["--param", "from=2023-11-14", "--param", "to=2023-11-16"];
    let out = sandbox.ok(&[&["query", "--output", "csv", "-f", &file], &day[..]].concat());
    assert!(out.lines().count() > 1, "{out}");
}
