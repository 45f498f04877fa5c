//! The binary in a directory of its own, as a shell would run it.
//!
//! Read [`Sandbox`]. Spans are numbered: number `n` is line `n` of [`numbered_spans`], so that a
//! test can say which of them a lake must hold.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value as Json, json};

/// When the numbered spans begin: 2023-11-14, 22:00 UTC.
const FIRST_NANO: u64 = 1_699_999_200_000_000_000;

/// A directory that goes with the test, and the binary in it.
pub(crate) struct Sandbox {
    directory: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory can be made"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).unwrap();
        }
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The binary, on the lake `lake` of this directory unless the arguments say otherwise.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracelake"));
        isolate(&mut command, self.directory.path());
        command.args(arguments);
        command
    }

    /// The binary, started by a shell that runs `before` first: for limits of a process.
    pub(crate) fn command_after(&self, before: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        isolate(&mut command, self.directory.path());
        command
            .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_tracelake"))
            .args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs with bytes on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // Beside the reading of what comes out: neither pipe holds everything.
        let writer = std::thread::spawn(move || {
            // A process that ends before it has read everything breaks the pipe.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs what must succeed; gives its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        succeeded(self.run(arguments), arguments)
    }

    /// The rows of a query.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Json> {
        let out = self.ok(&["query", "--output", "ndjson", "-c", sql]);
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The only value of a query that gives a whole number.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        let rows = self.rows(sql);
        let value = rows[0].as_object().unwrap().values().next().unwrap();
        value.as_u64().unwrap_or_else(|| panic!("{sql}: {value}"))
    }

    /// The files below a directory.
    pub(crate) fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_files(&self.path(name), &mut found);
        found.sort();
        found
    }

    /// The data files of a lake, whether it knows them or not.
    pub(crate) fn data_files(&self, name: &str) -> Vec<PathBuf> {
        let mut files = self.files(name);
        // The log's checkpoints are Parquet, too.
        files.retain(|path| {
            path.extension().is_some_and(|ending| ending == "parquet")
                && !path.iter().any(|part| part == "_delta_log")
        });
        files
    }
}

fn isolate(command: &mut Command, directory: &Path) {
    for variable in [
        "TRACELAKE_LAKE",
        "TRACELAKE_MEMORY_LIMIT",
        "TRACELAKE_SPILL_DIR",
        "TRACELAKE_THREADS",
        "TRACELAKE_TRACE_MARGIN",
        "TRACELAKE_TRACE_RANGE_ROWS",
        "TRACELAKE_LOG",
        "PAGER",
    ] {
        command.env_remove(variable);
    }
    command
        .current_dir(directory)
        .env("TRACELAKE_HISTORY", directory.join("history"))
        .stdin(Stdio::null());
}

fn collect_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Standard output of a process that must have succeeded.
pub(crate) fn succeeded(output: Output, what: impl std::fmt::Debug) -> String {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{what:?}\n{errors}");
    text(&output.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// OTLP JSON lines, a span each, named `span 000017` by their numbers; four make a trace, and
/// 500 an hour.
pub(crate) fn numbered_spans(numbers: Range<u64>) -> String {
    let mut lines = String::new();
    for number in numbers {
        let start = FIRST_NANO + number * 3_600_000_000_000 / 500;
        let parent = match number % 4 {
            0 => String::new(),
            _ => format!("{number:016x}"),
        };
        let line = json!({"resourceSpans": [{
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": format!("service-{}", number % 3)}},
            ]},
            "scopeSpans": [{"scope": {"name": "numbers"}, "spans": [{
                "traceId": trace_id(number / 4),
                "spanId": format!("{:016x}", number + 1),
                "parentSpanId": parent,
                "name": format!("span {number:06}"),
                "kind": number % 6,
                "startTimeUnixNano": start.to_string(),
                "endTimeUnixNano": (start + 1_000_000 * (number % 50)).to_string(),
                "attributes": [
                    {"key": "number", "value": {"intValue": number.to_string()}},
                    {"key": "user.id", "value": {"stringValue": format!("user-{}", number % 97)}},
                ],
            }]}],
        }]});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    lines
}

/// A trace id for a number, of the kind that random ones are.
pub(crate) fn trace_id(number: u64) -> String {
    // An odd multiplier: different numbers stay different.
    const SCATTER: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    format!("{:032x}", (u128::from(number) + 1).wrapping_mul(SCATTER))
}
