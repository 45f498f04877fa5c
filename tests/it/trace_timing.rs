//! How long the notions of a trace take. Ignored, since it only tells in a release build:
//! `cargo test --release --test it trace_timing -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use tracelake::trace::{
    CriticalPath, EdgeDetails, EdgeMode, Findings, Forest, NO_OFFSET, SelfTimes, ServiceSet,
    TraceColumns, TraceSummary, find, for_each_path, service_edges,
};

/// Columns of many traces, one after another.
#[derive(Default)]
struct Spans {
    span_id: Vec<u64>,
    parent_span_id: Vec<u64>,
    parent_offset: Vec<i32>,
    start: Vec<i64>,
    duration: Vec<i64>,
    kind: Vec<i8>,
    status: Vec<i8>,
    service: Vec<u32>,
    name: Vec<u32>,
}

impl Spans {
    /// Appends a trace in which the parent of span `i` is span `parent(i)`, in the order of
    /// starts.
    fn push_trace(&mut self, count: usize, random: &mut u64, parent: impl Fn(usize, u64) -> usize) {
        let first = self.span_id.len();
        for place in 0..count {
            let number = next(random);
            self.span_id.push(number | 1);
            self.start.push(place as i64 * 10);
            self.duration
                .push(((count - place) as i64 + (number % 8) as i64 - 1) * 10);
            self.kind.push((number % 6) as i8);
            self.status.push(i8::from(number.is_multiple_of(50)) * 2);
            self.service.push((number >> 8) as u32 % 20);
            self.name.push((number >> 16) as u32 % 200);
            let above = (place > 0).then(|| first + parent(place, number));
            let offset = above.map_or(NO_OFFSET, |above| above as i32 - (first + place) as i32);
            self.parent_offset.push(offset);
            self.parent_span_id
                .push(above.map_or(0, |above| self.span_id[above]));
        }
    }

    fn columns(&self) -> TraceColumns<'_> {
        TraceColumns {
            span_id: &self.span_id,
            parent_span_id: &self.parent_span_id,
            parent_offset: &self.parent_offset,
            start_time_unix_nano: &self.start,
            duration_nano: &self.duration,
            kind: &self.kind,
            status_code: &self.status,
            service: &self.service,
            name: &self.name,
        }
    }
}

fn next(random: &mut u64) -> u64 {
    // SplitMix64 (Steele, Lea and Flood 2014).
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*random ^ (*random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The shortest of five runs.
fn time(mut work: impl FnMut()) -> Duration {
    let runs = (0..5).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed()
    });
    runs.min().unwrap_or_default()
}

fn tell(name: &str, spans: usize, elapsed: Duration) {
    let each = elapsed.as_nanos() as f64 / spans as f64;
    println!(
        "{name:<44} {:>9.3} ms {each:>8.1} ns a span",
        elapsed.as_secs_f64() * 1e3
    );
}

/// Times each notion over the traces whose rows are `traces`.
fn tell_all(name: &str, columns: &TraceColumns<'_>, traces: &[std::ops::Range<usize>]) {
    let count = columns.len();
    let mut forest = Forest::default();
    let mut times = SelfTimes::default();
    let mut path = CriticalPath::default();
    let mut services = ServiceSet::default();
    let mut findings: Vec<Findings> = Vec::new();
    let mut edges = Vec::new();
    let without = TraceColumns {
        parent_offset: &[],
        ..*columns
    };
    let trusted = TraceColumns {
        span_id: &[],
        ..*columns
    };
    for (what, columns) in [
        ("offsets", columns),
        ("ids", &without),
        ("offsets alone", &trusted),
    ] {
        let elapsed = time(|| {
            for rows in traces {
                forest.rebuild(&columns.slice(rows.clone()));
            }
        });
        tell(&format!("{name}: forest by {what}"), count, elapsed);
    }
    let elapsed = time(|| {
        for rows in traces {
            let columns = columns.slice(rows.clone());
            forest.rebuild(&columns);
            times.rebuild(&columns, &forest);
        }
    });
    tell(&format!("{name}: forest, self times"), count, elapsed);
    let elapsed = time(|| {
        for rows in traces {
            let columns = columns.slice(rows.clone());
            forest.rebuild(&columns);
            path.rebuild(&columns, &forest);
        }
    });
    tell(&format!("{name}: forest, critical path"), count, elapsed);
    let elapsed = time(|| {
        edges.clear();
        for rows in traces {
            let columns = columns.slice(rows.clone());
            forest.rebuild(&columns);
            service_edges(
                &columns,
                &forest,
                &EdgeDetails::default(),
                EdgeMode::Calls,
                &mut edges,
            );
        }
    });
    tell(&format!("{name}: forest, edges"), count, elapsed);
    let elapsed = time(|| {
        for rows in traces {
            let columns = columns.slice(rows.clone());
            forest.rebuild(&columns);
            find(&columns, &forest, &mut findings);
            TraceSummary::new(&columns, &forest, &mut services);
        }
    });
    tell(
        &format!("{name}: forest, findings, summary"),
        count,
        elapsed,
    );
    let mut bytes = 0;
    let elapsed = time(|| {
        for rows in traces {
            forest.rebuild(&columns.slice(rows.clone()));
            for_each_path(&forest, |_, path| bytes += path.map_or(0, str::len));
        }
    });
    tell(&format!("{name}: forest, paths"), count, elapsed);
}

#[test]
#[ignore = "tells something in a release build only"]
fn how_long_the_notions_of_a_trace_take() {
    let mut random = 7;
    let near = |place: usize, number: u64| place - 1 - (number as usize / 64 % place.min(4));
    let mut spans = Spans::default();
    let traces: Vec<_> = (0..100_000)
        .map(|_| {
            let first = spans.span_id.len();
            let count = 3 + (next(&mut random) % 15) as usize;
            spans.push_trace(count, &mut random, near);
            first..first + count
        })
        .collect();
    tell_all("100,000 traces of 10", &spans.columns(), &traces);
    let mut spans = Spans::default();
    spans.push_trace(5000, &mut random, near);
    tell_all(
        "5,000 spans",
        &spans.columns(),
        std::slice::from_ref(&(0..5000)),
    );
    const MILLION: usize = 1_000_000;
    type Shape = fn(usize, u64) -> usize;
    let shapes: [(&str, Shape); 3] = [
        ("random million", |place, number| {
            number as usize / 64 % place
        }),
        ("chain of a million", |place, _| place - 1),
        ("star of a million", |_, _| 0),
    ];
    for (name, shape) in shapes {
        let mut spans = Spans::default();
        spans.push_trace(MILLION, &mut random, shape);
        tell_all(name, &spans.columns(), std::slice::from_ref(&(0..MILLION)));
    }
}
