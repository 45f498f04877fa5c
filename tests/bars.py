#!/usr/bin/env python3
"""Measures tracelake against the bars it wants to clear, and prints how each figure was had.

    python3 tests/bars.py --tracelake target/release/tracelake --data DIR --duckdb
    python3 tests/bars.py --tracelake target/release/tracelake --generate 1000000

DIR holds the same spans twice: `traces.otlp.pb`, a stream of OTLP protobuf requests, each after
its length in four bytes, and `parquet/*.parquet`, flat Parquet with the column names of the
OpenTelemetry ClickHouse exporter. With --generate, `tracelake generate` makes the stream.

With --embedded the Rust API is timed, by `tracelake bench`; with --large-trace N a trace of N spans
is made, taken in and drawn.

With --duckdb (needs the Python package duckdb) the results of Q1 to Q8 on the lake as ingested are
compared with DuckDB's over the Parquet, row for row, and the exact quantiles race DuckDB's over a
table of its own in the same run. Nothing else beyond Python is needed. Ends with 1 if a bar is
missed or a result differs.
"""

import argparse
import glob
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from bars_log import enlarge
from bars_queries import LIMITS, QUERIES, differences, draw

# Files of the log over which planning is timed.
LOG_FILES = 100_000
UNITS = {"µs": 1e-3, "ms": 1.0, "s": 1e3}
TIMING = re.compile(r"statement \d+: .* in (?:(\d+) min )?([\d.]+) (µs|ms|s)$")


class Report:
    """Prints figures as they come, and remembers which bars were missed."""

    def __init__(self):
        self.missed = []

    def figure(self, name, text, how):
        print(f"      {name:<44} {text:>18}   {how}", flush=True)

    def bar(self, name, value, unit, limit, how, at_least=False):
        passed = value >= limit if at_least else value <= limit
        verdict = "PASS" if passed else "MISS"
        sign = "≥" if at_least else "≤"
        bound = f"{sign} {limit:,.10g} {unit}"
        print(f"{verdict}  {name:<44} {value:>12,.1f} {unit:<7} ({bound}; {how})", flush=True)
        if not passed:
            self.missed.append(name)

    def heading(self, text):
        print(f"\n{text}", flush=True)


# Runs a program from a process of its own, and tells the most memory it held: the system counts for
# a program what held the process that began it, which here may have DuckDB's tables in memory.
APART = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


class Tracelake:
    """The binary, over one lake."""

    def __init__(self, binary, lake):
        self.binary, self.lake = os.path.abspath(binary), lake

    def run(self, *arguments, apart=False):
        """Standard output and error, seconds, and the most memory the process held: exact if it
        runs `apart`, which takes a moment more."""
        command = [self.binary, "--lake", self.lake, *arguments]
        if apart:
            command = [sys.executable, "-c", APART, *command]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            begin = time.perf_counter()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            stdout, stderr = out.read().decode(), err.read().decode()
        if process.returncode:
            sys.exit(f"{' '.join(command)[:2000]}\nended with {process.returncode}:\n{stderr}")
        peak = int(stderr.split()[-1]) if apart else usage.ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        return stdout, stderr, seconds, peak

    def rows(self, sql):
        out, _, _, _ = self.run("query", "--output", "ndjson", "-c", sql)
        return [json.loads(line) for line in out.splitlines()]

    def timed(self, statements):
        """Milliseconds of each statement, all in one process."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql", delete=False) as file:
            file.write(";\n".join(statements))
        try:
            _, err, _, _ = self.run("query", "--output", "ndjson", "--timing", "-f", file.name)
        finally:
            os.unlink(file.name)
        times = [
            float(minutes or 0) * 60e3 + float(number) * UNITS[unit]
            for minutes, number, unit in (
                match.groups() for match in map(TIMING.search, err.splitlines()) if match
            )
        ]
        if len(times) != len(statements):
            sys.exit(f"{len(times)} times for {len(statements)} statements:\n{err[:2000]}")
        return times


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def measure_ingest(args, report, lake, stream):
    report.heading("ingest")
    rates, peak = [], 0
    for _ in range(args.runs):
        shutil.rmtree(lake.lake, ignore_errors=True)
        out, _, _, memory = lake.run("ingest", "--json", stream, apart=True)
        summary = json.loads(out)
        if summary["rejection_count"]:
            sys.exit(f"the stream was not read whole: {summary['rejections']}")
        rates.append(summary["span_count"] / summary["elapsed_seconds"])
        peak = max(peak, memory)
    how = f"`ingest --json`, median of {args.runs}: " + ", ".join(f"{r:,.0f}" for r in rates)
    report.bar("ingest", statistics.median(rates), "spans/s", 200_000, how, at_least=True)
    report.bar("ingest, peak memory", peak / 1e6, "MB", 2000, "resident set of the process, most")
    describe(report, lake, "as ingested")


def describe(report, lake, state):
    info = json.loads(lake.run("info", "--json")[0])
    spans = max(1, info["span_count"])
    log = sum(
        os.path.getsize(path)
        for path in glob.glob(f"{lake.lake}/_delta_log/**", recursive=True)
        if os.path.isfile(path)
    )
    size = (info["byte_count"] + log) / spans
    how = f"`info --json` and the log: {info['span_count']:,} spans in {info['file_count']} files"
    if state == "compacted":
        report.bar("disk, compacted", size, "B/span", 45, how)
    else:
        report.figure(f"disk, {state}", f"{size:.1f} B/span", how)
    return info


def measure_compaction(report, lake):
    report.heading("compaction")
    out, _, seconds, peak = lake.run("compact", "--json", apart=True)
    summary = json.loads(out)
    report.figure("compact", f"{seconds:.1f} s", "`compact --json`, process from start to end")
    report.figure("compact, peak memory", f"{peak / 1e6:,.0f} MB", "resident set of the process")
    dropped = summary.get("duplicate_count", 0)
    report.figure("exact duplicates dropped", f"{dropped:,}", "as `compact --json` says")
    describe(report, lake, "compacted")


def measure_lookups(args, report, lake, values, state):
    report.heading(f"lookups, {state}")
    factor = 1 if state == "compacted" else 2
    one = QUERIES["q1"].shown
    cold = [
        lake.run("query", "--output", "ndjson", "-c", one(values | {"trace_id": trace}))[2] * 1e3
        for trace in values["ids"][: args.cold]
    ]
    how = f"process from start to end, median of {args.cold} ids; files in the system's cache"
    report.bar(f"Q1 cold, {state}", statistics.median(cold), "ms", 150, how)

    statements = [one(values | {"trace_id": trace}) for trace in values["ids"]]
    times = lake.timed(statements * 3)
    warm = times[len(statements) :]
    how = f"{len(statements)} ids in one process, the second and third time, `--timing`"
    report.bar(f"Q1 warm p50, {state}", percentile(warm, 0.5), "ms", 5 * factor, how)
    report.bar(f"Q1 warm p99, {state}", percentile(warm, 0.99), "ms", 20 * factor, how)

    times = lake.timed([QUERIES["q2"].shown(values)] * (args.repeat + 1))
    how = f"{len(values['ids'][:100])} ids in one IN list, warm median of {args.repeat}"
    warm = statistics.median(times[1:])
    if state == "compacted":
        report.bar(f"Q2, {state}", warm, "ms", 60, how)
    else:
        report.figure(f"Q2, {state}", f"{warm:.1f} ms", how)


def measure_queries(args, report, lake, values, state, native):
    report.heading(f"queries, {state}")
    how = f"warm median of {args.repeat} in one process"
    for name, query in QUERIES.items():
        if name in ("q1", "q2"):
            continue
        mine = statistics.median(lake.timed([query.shown(values)] * (args.repeat + 1))[1:])
        theirs = None
        if native is not None and query.duckdb(values):
            theirs = statistics.median(native.timed(query.duckdb(values), args.repeat + 1)[1:])
        if name == "q5x" and theirs is not None:
            against = f"DuckDB's own table in this run, {how} each"
            report.bar(f"Q5x, {state}", mine, "ms", theirs, against)
            continue
        if name in LIMITS and state == "compacted" and values["span_count"] >= 9_000_000:
            report.bar(f"{name.upper()}, {state}", mine, "ms", LIMITS[name], how)
            continue
        beside = f"; DuckDB's own table: {theirs:,.1f} ms" if theirs is not None else ""
        report.figure(f"{name.upper()}, {state}", f"{mine:,.1f} ms", how + beside)


def measure_planning(args, report, lake, values, directory):
    report.heading("planning")
    large = Tracelake(lake.binary, f"{directory}/large")
    enlarge(lake.lake, large.lake, LOG_FILES)
    statement = (
        f"EXPLAIN SELECT * FROM spans WHERE trace_id = '{values['ids'][0]}'"
        f" AND start_time >= '{values['t0']}' AND start_time < '{values['t1']}'"
    )
    times = large.timed([statement] * (args.repeat + 1))
    how = f"`EXPLAIN` of Q1 with an hour's hint, warm median of {args.repeat}"
    name = f"planning over a log of {LOG_FILES:,} files"
    report.bar(name, statistics.median(times[1:]), "ms", 10, how)


def measure_embedded(report, lake):
    report.heading("the Rust API, compacted")
    out, _, _, _ = lake.run("bench", "--ids", "1000")
    found = json.loads(out)
    how = f"`bench`, {found['ids']} ids, no trace cached"
    report.bar("query_trace p50, uncached", found["query_trace_uncached_p50_ms"], "ms", 1.5, how)
    report.figure("query_trace p99, uncached", f"{found['query_trace_uncached_p99_ms']:.2f} ms", how)
    how = "the same ids again, from the cache"
    cached = found["query_trace_cached_p50_ms"] * 1e3
    report.bar("query_trace p50, cached", cached, "µs", 20, how)
    cached = found["query_trace_cached_p99_ms"] * 1e3
    report.figure("query_trace p99, cached", f"{cached:.1f} µs", how)
    how = f"{found['ids']} ids in one call, median of {found['repeat']}"
    report.bar("query_traces", found["query_traces_ms"], "ms", 150, how)
    how = f"the newest 20 traces of {found['service']}, median of {found['repeat']}"
    report.figure("search", f"{found['search_ms']:.1f} ms", how)


def write_trace(path, span_count):
    """A trace of so many spans, ten below each, as lines of OTLP JSON; its id."""
    trace, start = "5b1e7f00c0ffee00a11ce0000000f00d", 1_795_176_000_000_000_000
    with open(path, "w") as file:
        for first in range(0, span_count, 1000):
            spans = [{
                "traceId": trace, "spanId": f"{number + 1:016x}",
                "parentSpanId": f"{(number - 1) // 10 + 1:016x}" if number else "",
                "name": f"step {number % 50}", "kind": 1,
                "startTimeUnixNano": str(start + number),
                "endTimeUnixNano": str(start + 2 * span_count - number),
            } for number in range(first, min(first + 1000, span_count))]
            service = {"key": "service.name", "value": {"stringValue": f"service {first % 7}"}}
            file.write(json.dumps({"resourceSpans": [{
                "resource": {"attributes": [service]}, "scopeSpans": [{"spans": spans}]}]}) + "\n")
    return trace


def measure_large_trace(args, report, binary, directory):
    report.heading(f"a trace of {args.large_trace:,} spans")
    lake = Tracelake(binary, f"{directory}/large-trace")
    path = f"{directory}/large.jsonl"
    trace = write_trace(path, args.large_trace)
    _, _, seconds, peak = lake.run("ingest", path)
    report.figure("ingest", f"{seconds:.1f} s, {peak / 1e6:,.0f} MB", "process from start to end")
    for state in ("as ingested", "compacted"):
        if state == "compacted":
            lake.run("compact")
        found = lake.rows(f"SELECT count(*) AS spans, max(depth) AS depth FROM trace('{trace}')")[0]
        if int(found["spans"]) != args.large_trace:
            sys.exit(f"{found['spans']} spans came back")
        for name, sql in {
            "count(*) of trace()": f"SELECT count(*) AS n FROM trace('{trace}')",
            "trace_tree(), every line": f"SELECT count(tree) AS n FROM trace_tree('{trace}')",
        }.items():
            # Each in a process of its own, so that no cache has the trace.
            times = [lake.timed([sql])[0] for _ in range(args.runs)]
            how = f"first in its process, median of {args.runs}; depth {found['depth']}"
            value = statistics.median(times) / 1e3
            if args.large_trace <= 1_000_000:
                report.bar(f"{name}, {state}", value, "s", 3, how)
            else:
                report.figure(f"{name}, {state}", f"{value:.1f} s", how)


class DuckDB:
    """DuckDB over the Parquet, or over a table of its own."""

    def __init__(self, source, native=None):
        import duckdb  # Only where it is asked for: nothing else needs a package.

        self.connection = duckdb.connect(native or ":memory:")
        # Threads that others share do not make a race.
        self.connection.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
        self.connection.execute("SET TimeZone = 'UTC'")
        parquet = f"read_parquet('{source}/parquet/*.parquet')"
        if native is None:
            self.connection.execute(f"CREATE VIEW spans AS SELECT * FROM {parquet}")
        elif not self.connection.execute("FROM duckdb_tables()").fetchall():
            self.connection.execute(f"CREATE TABLE spans AS SELECT * FROM {parquet}")

    def rows(self, sql):
        return self.connection.execute(sql).fetchall()

    def timed(self, sql, count):
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            self.connection.execute(sql).fetchall()
            times.append((time.perf_counter() - begin) * 1e3)
        return times


def compare(report, lake, values, raw):
    report.heading("results against DuckDB over the Parquet, as ingested")
    for name, query in QUERIES.items():
        if not query.duckdb(values):
            continue
        found = differences(query, lake.rows(query.compared(values)), raw.rows(query.duckdb(values)))
        if found.lines:
            report.missed.append(f"{name} equals DuckDB")
            print(f"MISS  {name}: {found.row_count} rows, these differ:")
            for line in found.lines[:6]:
                print(f"        {line[:600]}")
        else:
            print(f"PASS  {name}: {found.row_count} rows are equal", flush=True)


def read_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracelake", required=True, metavar="BINARY", help="a release build")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="DIR", help="traces.otlp.pb and parquet/, see above")
    source.add_argument("--generate", type=int, metavar="N", help="make so many spans instead")
    parser.add_argument("--lake", metavar="DIR", help="where to make the lake, and keep it [default:"
                        " a temporary directory]; a lake that is there is replaced")
    parser.add_argument("--duckdb", action="store_true", help="compare results and race DuckDB")
    parser.add_argument("--embedded", action="store_true", help="time the Rust API as well")
    parser.add_argument("--large-trace", type=int, metavar="N", help="time a trace of N spans, such"
                        " as 1000000, as well")
    parser.add_argument("--native", metavar="FILE", help="keep DuckDB's own table in this file, and"
                        " use the one that is there")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="ingests [default: 3]")
    parser.add_argument("--repeat", type=int, default=5, metavar="N",
                        help="times each query runs warm [default: 5]")
    parser.add_argument("--ids", type=int, default=250, metavar="N",
                        help="traces looked up [default: 250]")
    parser.add_argument("--cold", type=int, default=9, metavar="N",
                        help="cold processes for Q1 [default: 9]")
    args = parser.parse_args()
    if args.duckdb and not args.data:
        parser.error("--duckdb compares with the Parquet of --data")
    return args


def measure(args, report, directory):
    lake = Tracelake(args.tracelake, args.lake or f"{directory}/lake")
    if os.path.isdir(lake.lake) and not os.path.isdir(f"{lake.lake}/_delta_log"):
        sys.exit(f"{lake.lake} is there and no lake; name another directory")
    stream = f"{args.data}/traces.otlp.pb"
    if args.generate:
        stream = f"{directory}/traces.pb"
        lake.run("generate", "--spans", str(args.generate), "--hours", "24",
                 "--start", "2026-11-21T00:00:00Z", "--otlp", stream)
    measure_ingest(args, report, lake, stream)
    values = draw(lake, args.ids)
    report.heading("drawn from the data")
    for name in ("t0", "t1", "service", "user", "prefix", "deep_trace", "deep_span", "big_trace"):
        print(f"      {name:<12} {values[name]}")
    if args.duckdb:
        compare(report, lake, values, DuckDB(args.data))
    native = None
    if args.duckdb:
        report.heading("DuckDB's own table")
        begin = time.perf_counter()
        native = DuckDB(args.data, args.native or f"{directory}/native.duckdb")
        report.figure("load", f"{time.perf_counter() - begin:.1f} s", "or opened, with --native")
    measure_lookups(args, report, lake, values, "as ingested")
    measure_queries(args, report, lake, values, "as ingested", native)
    measure_compaction(report, lake)
    measure_lookups(args, report, lake, values, "compacted")
    measure_queries(args, report, lake, values, "compacted", native)
    if args.embedded:
        measure_embedded(report, lake)
    measure_planning(args, report, lake, values, directory)
    if args.large_trace:
        measure_large_trace(args, report, args.tracelake, directory)


def main():
    args = read_arguments()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="tracelake-bars-") as directory:
        measure(args, report, directory)
    if report.missed:
        sys.exit("\nmissed: " + ", ".join(report.missed))
    print("\nevery bar is cleared")


if __name__ == "__main__":
    main()
