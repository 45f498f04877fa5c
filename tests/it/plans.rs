//! What queries read and what they do not have to: plans, pruning and its counts.

use std::sync::Arc;

use tracelake::engine::{ExplainReport, Session};
use tracelake::{Config, Lake};

use super::lakes::{fill_with_workload, rows, small_files, value};

/// The same spans as ingested and compacted, in many small files.
struct Lakes {
    ingested: Session,
    compacted: Session,
    unpruned: Session,
    _directory: tempfile::TempDir,
}

impl Lakes {
    async fn make() -> Self {
        let ingested = Lake::create("memory:///", small_files(true)).await.unwrap();
        fill_with_workload(&ingested).await;
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_string_lossy().into_owned();
        let compacted = Lake::create(&location, small_files(true)).await.unwrap();
        fill_with_workload(&compacted).await;
        compacted.compact(Arc::new(|_| {})).await.unwrap();
        let unpruned = Lake::open(&location, small_files(false)).await.unwrap();
        Self {
            ingested: ingested.session().await.unwrap(),
            compacted: compacted.session().await.unwrap(),
            unpruned: unpruned.session().await.unwrap(),
            _directory: directory,
        }
    }
}

fn pruned_by(report: &ExplainReport, step: &str) -> usize {
    let found = report
        .pruned_by
        .iter()
        .find(|(name, _)| name.contains(step));
    found.unwrap_or_else(|| panic!("a step named {step}")).1
}

async fn explain(session: &Session, sql: &str) -> ExplainReport {
    match session.explain(sql).await {
        Ok(report) => report,
        Err(error) => panic!("{error}\n{sql}"),
    }
}

/// A trace of some size that lies in one hour.
async fn one_hour_trace(session: &Session) -> String {
    let sql = "SELECT trace_id FROM spans GROUP BY trace_id \
               HAVING count(*) > 10 AND date_trunc('hour', min(start_time)) = date_trunc('hour', max(start_time)) \
               ORDER BY trace_id LIMIT 1";
    value(session, sql).await
}

async fn plan_of(session: &Session, sql: &str) -> String {
    let plan = rows(session, &format!("EXPLAIN FORMAT INDENT {sql}")).await;
    let physical = plan.iter().find(|row| row[0] == "physical_plan");
    physical.expect("EXPLAIN shows the physical plan")[1].clone()
}

/// The line of a plan that scans the lake.
fn scan(plan: &str) -> &str {
    let line = plan.lines().find(|line| line.contains("DataSourceExec"));
    line.unwrap_or_else(|| panic!("a scan in\n{plan}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_by_id_reads_one_file_after_compaction() {
    let lakes = Lakes::make().await;
    let id = one_hour_trace(&lakes.compacted).await;
    for form in [id.clone(), id.to_uppercase()] {
        let sql = format!("SELECT * FROM spans WHERE trace_id = '{form}'");
        let report = explain(&lakes.compacted, &sql).await;
        assert!(report.files_considered > 12, "{report}");
        assert_eq!(report.files_read(), 1, "{report}");
        assert!(pruned_by(&report, "bucket") > 0, "{report}");
        assert!(pruned_by(&report, "filter") > 0, "{report}");
        assert!(report.rows_pruned_by_pages > 0, "{report}");
        assert!(report.row_count > 10, "{report}");
        let everything = explain(&lakes.compacted, "SELECT * FROM spans").await;
        assert!(report.bytes_read * 4 < everything.bytes_read, "{report}");
    }
    let report = explain(
        &lakes.ingested,
        &format!("SELECT * FROM spans WHERE trace_id = '{id}'"),
    )
    .await;
    assert!(report.files_read() <= 3, "two commits, one hour\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_trace_reads_no_file() {
    let lakes = Lakes::make().await;
    for id in ["", "00000000000000000000000000000abc"] {
        let sql = format!("SELECT * FROM spans WHERE trace_id = '{id}'");
        let report = explain(&lakes.compacted, &sql).await;
        assert_eq!((report.row_count, report.bytes_read), (0, 0), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_time_reads_the_files_of_its_hours() {
    let lakes = Lakes::make().await;
    let sql = "SELECT count(name) FROM spans \
               WHERE start_time >= '2026-11-20T08:00:00Z' AND start_time < '2026-11-20T09:00:00Z'";
    let files = "SELECT count(*) FROM lake_files WHERE hour = 8";
    for session in [&lakes.ingested, &lakes.compacted] {
        let report = explain(session, sql).await;
        assert!(pruned_by(&report, "hour") > 0, "{report}");
        let of_the_hour = value(session, files).await;
        assert_eq!(report.files_read().to_string(), of_the_hour, "{report}");
    }
    let never = "SELECT name FROM spans WHERE start_time > '2030-01-01T00:00:00Z'";
    let report = explain(&lakes.compacted, never).await;
    assert_eq!((report.files_read(), report.bytes_read), (0, 0), "{report}");
    // The end of an hour's spans is known before its files are opened.
    let late = "SELECT name FROM spans WHERE start_time >= '2026-11-20T11:59:59.999999Z'";
    let report = explain(&lakes.compacted, late).await;
    assert!(pruned_by(&report, "statistics") > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_analyze_counts_every_step_of_pruning() {
    let lakes = Lakes::make().await;
    let id = one_hour_trace(&lakes.compacted).await;
    let sql = format!("EXPLAIN ANALYZE SELECT name FROM spans WHERE trace_id = '{id}'");
    let plan = rows(&lakes.compacted, &sql).await;
    let text: String = plan.into_iter().flatten().collect();
    for metric in [
        "files_considered=",
        "files_pruned_by_hour=",
        "files_pruned_by_bucket=",
        "files_pruned_by_statistics=",
        "files_pruned_by_trace_filter=",
    ] {
        assert!(text.contains(metric), "{metric} in\n{text}");
    }
    let report = explain(&lakes.compacted, &sql["EXPLAIN ANALYZE ".len()..]).await;
    let shown = report.to_string();
    for line in [
        "files considered",
        "removed by",
        "files read",
        "bytes read",
        "DataSourceExec",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_pruning_everything_is_read() {
    let lakes = Lakes::make().await;
    let id = one_hour_trace(&lakes.compacted).await;
    let sql = format!("SELECT span_id FROM spans WHERE trace_id = '{id}' ORDER BY span_id");
    let report = explain(&lakes.unpruned, &sql).await;
    assert_eq!(report.files_read(), report.files_considered, "{report}");
    assert_eq!(report.rows_pruned_by_pages, 0, "{report}");
    assert_eq!(
        rows(&lakes.unpruned, &sql).await,
        rows(&lakes.compacted, &sql).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_and_the_ends_of_time_read_no_file() {
    let lakes = Lakes::make().await;
    for session in [&lakes.ingested, &lakes.compacted] {
        for sql in [
            "SELECT count(*) FROM spans",
            "SELECT min(start_time), max(start_time) FROM spans",
            "SELECT count(*), min(start_time) FROM spans",
        ] {
            let report = explain(session, sql).await;
            assert_eq!(report.bytes_read, 0, "{sql}\n{report}");
            assert!(!report.plan.contains("DataSourceExec"), "{sql}\n{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_are_evaluated_in_the_scan() {
    let lakes = Lakes::make().await;
    let id = one_hour_trace(&lakes.compacted).await;
    for (filter, predicate) in [
        (
            format!("trace_id = '{id}'"),
            format!("predicate=trace_id@0 = {id}"),
        ),
        (
            format!("trace_id = '{}'", id.to_uppercase()),
            format!("predicate=trace_id@0 = {id}"),
        ),
        (
            "kind = 'SERVER'".to_string(),
            "predicate=kind@6 = SERVER".to_string(),
        ),
        (
            "start_time >= '2026-11-20T08:00:00Z'".to_string(),
            "predicate=start_time@7 >= ".to_string(),
        ),
        (
            "attributes['http.route'] = '/x'".to_string(),
            "attribute(attributes@".to_string(),
        ),
    ] {
        let plan = plan_of(
            &lakes.compacted,
            &format!("SELECT attributes FROM spans WHERE {filter}"),
        )
        .await;
        assert!(scan(&plan).contains(&predicate), "{predicate} in\n{plan}");
        assert!(
            !plan.contains("FilterExec"),
            "{filter} is above the scan\n{plan}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_columns_are_decoded_first_and_filtered_after() {
    let lakes = Lakes::make().await;
    let sql = "SELECT duration_nano FROM spans WHERE kind = 'SERVER'";
    let plan = plan_of(&lakes.compacted, sql).await;
    assert!(plan.contains("FilterExec"), "{plan}");
    assert!(
        scan(&plan).contains("predicate=kind@6 = SERVER"),
        "it still prunes\n{plan}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_attribute_with_a_column_nothing_else_is_read() {
    let lakes = Lakes::make().await;
    for session in [&lakes.ingested, &lakes.compacted] {
        let whole = explain(session, "SELECT attributes FROM spans").await;
        for one in [
            "SELECT attributes['http.route'] AS route, count(*) FROM spans GROUP BY route",
            "SELECT count(*) FROM spans WHERE attributes['http.response.status_code'] >= 500",
        ] {
            let one = explain(session, one).await;
            assert!(one.bytes_read * 5 < whole.bytes_read, "{one}\n{whole}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attribute_is_taken_out_of_its_object_in_the_scan() {
    let lakes = Lakes::make().await;
    let plan = plan_of(
        &lakes.compacted,
        "SELECT name, attributes['http.route'] FROM spans",
    )
    .await;
    assert!(scan(&plan).contains("attribute(attributes"), "{plan}");
    let plan = plan_of(
        &lakes.compacted,
        "SELECT attributes['http.route'] AS route, count(*) FROM spans GROUP BY route",
    )
    .await;
    assert!(scan(&plan).contains("attribute(attributes"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_on_trace_id_skips_what_the_other_side_does_not_have() {
    let lakes = Lakes::make().await;
    let id = one_hour_trace(&lakes.compacted).await;
    let sql = format!(
        "SELECT s.trace_id, s.span_id, s.start_time FROM spans s \
         JOIN (VALUES ('{id}')) v(id) ON s.trace_id = v.id ORDER BY s.start_time, s.span_id"
    );
    let found = rows(&lakes.compacted, &sql).await;
    assert!(found.len() > 10);
    assert_eq!(found, rows(&lakes.unpruned, &sql).await);
    let report = explain(&lakes.compacted, &sql).await;
    assert!(report.plan.contains("DynamicFilter"), "{report}");
    let everything = explain(
        &lakes.compacted,
        "SELECT trace_id, span_id, start_time FROM spans",
    )
    .await;
    assert!(report.bytes_read < everything.bytes_read, "{report}");
    let skipped = report.rows_pruned_by_pages + report.rows_pruned_by_filters;
    assert!(skipped > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_spans_are_found_without_reading_everything() {
    let lakes = Lakes::make().await;
    let newest = "SELECT start_time, name FROM spans ORDER BY start_time DESC LIMIT 20";
    let everything = explain(&lakes.compacted, "SELECT start_time, name FROM spans").await;
    let report = explain(&lakes.compacted, newest).await;
    assert_eq!(report.row_count, 20);
    assert!(report.bytes_read * 2 < everything.bytes_read, "{report}");
    let times = "SELECT start_time FROM spans ORDER BY start_time DESC LIMIT 20";
    assert_eq!(
        rows(&lakes.compacted, times).await,
        rows(&lakes.unpruned, times).await
    );
    assert_eq!(
        rows(&lakes.ingested, times).await,
        rows(&lakes.unpruned, times).await
    );
    let few = explain(&lakes.compacted, "SELECT name FROM spans LIMIT 5").await;
    assert!(few.bytes_read * 2 < everything.bytes_read, "{few}");
}

#[tokio::test]
async fn explain_takes_one_statement() {
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let session = lake.session().await.unwrap();
    for sql in ["", "SELECT 1; SELECT 2", "SELEC"] {
        assert!(session.explain(sql).await.is_err(), "{sql}");
    }
}
