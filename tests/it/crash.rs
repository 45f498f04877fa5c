//! What a lake holds after a process was killed, could not write, or had company.

use std::process::Output;
use std::time::{Duration, Instant};

use super::sandbox::{Sandbox, numbered_spans, succeeded, text};

const BATCH: u64 = 200;
const SPANS: u64 = 4_000;

/// Asserts that the lake holds the spans `0..count`, each once, and that all of it can be read.
#[track_caller]
pub(crate) fn assert_holds_the_first(sandbox: &Sandbox, count: u64) {
    let rows = sandbox.rows(
        "SELECT count(*) AS spans, count(DISTINCT name) AS names, \
         coalesce(max(CAST(attributes['number'] AS BIGINT)) + 1, 0) AS ends FROM spans",
    );
    for column in ["spans", "names", "ends"] {
        assert_eq!(rows[0][column], count, "{column} in {rows:?}");
    }
    let all = sandbox.ok(&["query", "--output", "ndjson", "-c", "SELECT * FROM spans"]);
    assert_eq!(all.lines().count() as u64, count);
}

/// A fraction that differs from run to run, so that runs together visit many moments.
pub(crate) fn jitter() -> f64 {
    let clock = std::time::SystemTime::now();
    let since = clock.duration_since(std::time::UNIX_EPOCH).unwrap();
    f64::from(since.subsec_nanos() % 1_000_000) / 1e6
}

/// Runs the binary and kills it after some time; true if it had not ended by then.
fn killed_after(sandbox: &Sandbox, arguments: &[&str], moment: Duration) -> bool {
    let mut child = sandbox.start(arguments);
    std::thread::sleep(moment);
    // SIGKILL: nothing of the process runs after it.
    child.kill().unwrap();
    child.wait_with_output().unwrap().status.code().is_none()
}

#[test]
fn a_killed_ingest_leaves_exactly_the_committed_batches() {
    let sandbox = Sandbox::new();
    sandbox.write("spans.jsonl", numbered_spans(0..SPANS));
    let batch = BATCH.to_string();
    let ingest = ["ingest", "--batch-spans", &batch, "spans.jsonl"];
    let begin = Instant::now();
    sandbox.ok(&ingest);
    let whole = begin.elapsed();
    assert_holds_the_first(&sandbox, SPANS);

    let mut partly = 0;
    for attempt in 0..6 {
        std::fs::remove_dir_all(sandbox.path("lake")).unwrap();
        let moment = whole.mul_f64((f64::from(attempt) + jitter()) / 6.0);
        killed_after(&sandbox, &ingest, moment);
        let info = sandbox.run(&["info", "--json"]);
        if info.status.code() == Some(3) {
            // Killed before there was a lake: the next ingest makes it.
            std::fs::create_dir_all(sandbox.path("lake")).unwrap();
            continue;
        }
        let info: serde_json::Value =
            serde_json::from_str(&succeeded(info, "info after a kill")).unwrap();
        let count = info["span_count"].as_u64().unwrap();
        assert_eq!(count % BATCH, 0, "half a batch after {moment:?}");
        assert_holds_the_first(&sandbox, count);
        partly += u32::from(count > 0 && count < SPANS);

        // The lake goes on: what the killed process left behind is in nobody's way.
        sandbox.ok(&["compact"]);
        assert_holds_the_first(&sandbox, count);
        sandbox.ok(&["vacuum", "--older-than", "0s"]);
        assert_holds_the_first(&sandbox, count);
        let rest = sandbox.write("rest.jsonl", numbered_spans(count..SPANS));
        sandbox.ok(&["ingest", &rest.display().to_string()]);
        assert_holds_the_first(&sandbox, SPANS);
    }
    assert!(
        partly > 0,
        "no kill came between the first and the last commit"
    );
}

#[test]
fn a_killed_compaction_changes_nothing_and_the_next_one_ends_it() {
    let sandbox = Sandbox::new();
    sandbox.write("spans.jsonl", numbered_spans(0..SPANS));
    sandbox.ok(&["ingest", "--batch-spans", "500", "spans.jsonl"]);
    for attempt in 0..4 {
        let moment = Duration::from_millis(100).mul_f64(f64::from(attempt) * 3.0 + jitter());
        killed_after(&sandbox, &["compact"], moment);
        assert_holds_the_first(&sandbox, SPANS);
    }
    sandbox.ok(&["compact"]);
    assert_holds_the_first(&sandbox, SPANS);
    assert_eq!(sandbox.ok(&["compact"]).trim(), "nothing to compact");
    sandbox.ok(&["vacuum", "--older-than", "0s"]);
    assert_holds_the_first(&sandbox, SPANS);
    let listed = sandbox.number("SELECT count(*) FROM lake_files");
    assert_eq!(sandbox.data_files("lake").len() as u64, listed);
}

/// Asserts a clean failure with one of these exit codes.
#[track_caller]
fn assert_failed(output: &Output, codes: &[i32]) {
    let message = text(&output.stderr);
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{code:?}: {message}"
    );
    assert!(message.starts_with("error: "), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn a_write_that_fails_leaves_the_lake_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.write("first.jsonl", numbered_spans(0..400));
    sandbox.ok(&["ingest", "first.jsonl"]);
    // Hours of days that the lake has nothing of yet.
    sandbox.write("more.jsonl", numbered_spans(40_000..41_000));

    // A file may grow to eight blocks: as a disk that is full in the middle of a data file.
    let full = sandbox
        .command_after("trap '' XFSZ; ulimit -f 8", &["ingest", "more.jsonl"])
        .output()
        .unwrap();
    assert_failed(&full, &[5]);
    assert_holds_the_first(&sandbox, 400);

    // The same, but the system kills the process in the middle of the file.
    let killed = sandbox
        .command_after("ulimit -f 8", &["ingest", "more.jsonl"])
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None, "{}", text(&killed.stderr));
    assert_holds_the_first(&sandbox, 400);
    sandbox.ok(&["vacuum", "--older-than", "0s"]);
    let left: Vec<_> = sandbox
        .files("lake")
        .into_iter()
        .filter(|path| path.to_string_lossy().contains('#'))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // A place that cannot be written to, also not by root: a file stands where a directory must.
    sandbox.write("obstacle.jsonl", numbered_spans(400..500));
    let day = sandbox.path("lake/day=2023-11-14");
    let aside = sandbox.path("aside");
    std::fs::rename(&day, &aside).unwrap();
    std::fs::write(&day, "in the way").unwrap();
    let refused = sandbox.run(&["ingest", "obstacle.jsonl"]);
    std::fs::remove_file(&day).unwrap();
    std::fs::rename(&aside, &day).unwrap();
    assert_failed(&refused, &[4, 5]);
    assert_holds_the_first(&sandbox, 400);

    sandbox.write("second.jsonl", numbered_spans(400..800));
    sandbox.ok(&["ingest", "second.jsonl"]);
    assert_holds_the_first(&sandbox, 800);
}

#[test]
fn strict_commits_nothing_when_one_line_is_bad() {
    let sandbox = Sandbox::new();
    let spans = format!("{}not a span\n", numbered_spans(0..1_000));
    sandbox.write("spans.jsonl", &spans);
    let strict = ["ingest", "--strict", "--batch-spans", "100", "spans.jsonl"];

    let output = sandbox.run(&strict);
    assert_failed(&output, &[2]);
    let message = text(&output.stderr);
    assert!(
        message.contains("spans.jsonl") && message.contains("1001"),
        "{message}"
    );
    let after = sandbox.run(&["info", "--json"]);
    if after.status.code() != Some(3) {
        assert_holds_the_first(&sandbox, 0);
    }

    sandbox.write("good.jsonl", numbered_spans(0..100));
    sandbox.ok(&["ingest", "--strict", "good.jsonl"]);
    assert_failed(&sandbox.run(&strict), &[2]);
    assert_holds_the_first(&sandbox, 100);
    assert_eq!(
        sandbox.data_files("lake").len() as u64,
        sandbox.number("SELECT count(*) FROM lake_files"),
        "files of the attempt were left behind"
    );
}

#[test]
fn two_writers_and_a_compaction_at_once_lose_and_duplicate_nothing() {
    let sandbox = Sandbox::new();
    const EACH: u64 = 2_000;
    // Both write into the same hours: odd and even quarters of the numbers.
    let (mut one, mut other) = (String::new(), String::new());
    for block in 0..(2 * EACH / 250) {
        let spans = numbered_spans(block * 250..(block + 1) * 250);
        if block % 2 == 0 {
            one.push_str(&spans);
        } else {
            other.push_str(&spans);
        }
    }
    sandbox.write("one.jsonl", one);
    sandbox.write("other.jsonl", other);
    // A lake that exists, so that the compaction finds one from the start.
    sandbox.write("none.jsonl", "");
    sandbox.ok(&["ingest", "none.jsonl"]);

    let mut writers: Vec<_> = ["one.jsonl", "other.jsonl"]
        .iter()
        .map(|file| sandbox.start(&["ingest", "--batch-spans", "100", file]))
        .collect();
    let mut compactions = 0;
    while writers
        .iter_mut()
        .any(|writer| writer.try_wait().unwrap().is_none())
    {
        sandbox.ok(&["compact"]);
        compactions += 1;
    }
    for writer in writers {
        succeeded(writer.wait_with_output().unwrap(), "a writer");
    }
    assert!(compactions > 0);
    assert_holds_the_first(&sandbox, 2 * EACH);
    sandbox.ok(&["compact"]);
    assert_holds_the_first(&sandbox, 2 * EACH);
    sandbox.ok(&["vacuum", "--older-than", "0s"]);
    assert_holds_the_first(&sandbox, 2 * EACH);
}
