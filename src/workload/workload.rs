//! The stream of traces: which start when, and what becomes of their spans on the way.
//!
//! Read [`Workload`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::span::{Origin, Resource, Scope, Span};

use super::day_curve::DayCurve;
use super::fleet::Fleet;
use super::topology::{GATE_HEALTH, Operation, SETTLE, TRAFFIC};
use super::trace_maker::{Sent, TraceMaker};

/// How often a trace loses one of its inner spans, which makes its children orphans.
const LOSS: f64 = 0.012;
/// How often a span arrives late, up to ten minutes after the others of its trace.
const LATE: f64 = 0.01;
/// How often a span is delivered a second time.
const REPEAT: f64 = 0.002;
const LONGEST_DELAY_NANO: i64 = 600_000_000_000;
/// How often the settlement runs by the clock, besides when someone starts it.
const SETTLEMENT_NANO: i64 = 4 * 3_600_000_000_000;
/// Spans of a trace beyond which it no longer moves the time of the traces after it.
const LARGE_TRACE: u64 = 60;
/// How long a message waits at most for others to fill a batch.
const PATIENCE_NANO: i64 = 20_000_000_000;
/// Messages the batch consumer takes at most at once.
const BATCH: usize = 12;

/// Traces of an invented meal-delivery platform: nineteen services that call each other over
/// HTTP and gRPC, keep data in five kinds of databases and send messages.
///
/// Made to look like what a collector delivers: diurnal traffic, log-normal durations and trace
/// sizes (most under 30 spans, the settlement's hundreds), about one error in a hundred with
/// exceptions as events, retries, N+1 queries, consumers that outlive their producers and link
/// to them, a pod whose clock is wrong, rollouts (`pricing` gets slower), an outage of the bank,
/// a service that is new (`loyalty`), orphans, late spans and exact duplicates.
///
/// The same arguments give the same spans in the same order, on every 64-bit platform.
///
/// ```
/// use std::time::Duration;
/// use tracelake::workload::Workload;
///
/// let mut workload = Workload::new(42, 1000, 1_763_683_200_000_000_000, Duration::from_secs(3600));
/// let mut span_count = 0;
/// while let Some(spans) = workload.next_trace() {
///     for (origin, span) in &spans {
///         assert!(*origin < workload.origins().len());
///         assert!(!span.name.is_empty());
///     }
///     span_count += spans.len();
/// }
/// assert_eq!(span_count, 1000);
/// ```
#[derive(Debug)]
pub struct Workload {
    random: SmallRng,
    fleet: Fleet,
    curve: DayCurve,
    span_count: u64,
    /// Spans made so far, delivered or held back.
    made: u64,
    /// Spans of large traces that do not count for the passing of time yet: else nothing would
    /// start for a while after each.
    uncounted: u64,
    /// When the settlement runs next.
    next_settlement: i64,
    /// Late spans by the time of their arrival.
    held: BTreeMap<(i64, u64), (usize, Span)>,
    /// Messages that wait for the batch consumer.
    outbox: VecDeque<Sent>,
}

impl Workload {
    /// A workload of exactly `span_count` spans, duplicates included, whose traces start within
    /// `duration` from `start_time_unix_nano`; the last ones end after it.
    pub fn new(seed: u64, span_count: u64, start_time_unix_nano: i64, duration: Duration) -> Self {
        // Far enough from both ends of i64 for the sums of times never to overflow.
        let start = start_time_unix_nano.clamp(i64::MIN / 4, i64::MAX / 4);
        let longest = i64::MAX / 4;
        let duration = i64::try_from(duration.as_nanos()).map_or(longest, |nano| nano.min(longest));
        let mut random = SmallRng::seed_from_u64(seed);
        Self {
            fleet: Fleet::new(&mut random),
            random,
            curve: DayCurve::new(start, duration),
            span_count,
            made: 0,
            uncounted: 0,
            next_settlement: start.div_euclid(SETTLEMENT_NANO).saturating_add(1) * SETTLEMENT_NANO,
            held: BTreeMap::new(),
            outbox: VecDeque::new(),
        }
    }

    /// What the spans come from, by the index that comes with each span. It does not change.
    pub fn origins(&self) -> &[Origin] {
        &self.fleet.origins
    }

    /// The resource and scope behind each of [`origins`](Self::origins), in the same order;
    /// the origins of one resource stand side by side.
    pub fn origin_parts(&self) -> &[(Resource, Scope)] {
        &self.fleet.parts
    }

    /// The number of spans the whole workload has.
    pub fn span_count(&self) -> u64 {
        self.span_count
    }

    /// The spans that arrive next, each with the index of its origin: those of one new trace,
    /// parents before children, and the late ones of earlier traces whose time has come. `None`
    /// when all were delivered. A call seldom, but possibly, returns no span at all.
    pub fn next_trace(&mut self) -> Option<Vec<(usize, Span)>> {
        if self.made >= self.span_count {
            let rest = std::mem::take(&mut self.held);
            return (!rest.is_empty()).then(|| rest.into_values().collect());
        }
        let jitter = self.random.random_range(0.0..12.0);
        let progress = ((self.made - self.uncounted) as f64 + jitter) / self.span_count as f64;
        let start = self.curve.at(progress);
        let spans = self.make(start);
        self.made += spans.len() as u64;
        // They are made up for little by little.
        self.uncounted = self.uncounted.saturating_sub(spans.len() as u64 / 6);
        self.uncounted += (spans.len() as u64).saturating_sub(LARGE_TRACE);
        let mut delivery = self.due(start);
        delivery.reserve(spans.len());
        for (index, (origin, span)) in spans.into_iter().enumerate() {
            if self.random.random::<f64>() < LATE {
                let delay = self.random.random_range(0..LONGEST_DELAY_NANO);
                let end = span.start_time_unix_nano + span.duration_nano.unwrap_or(0);
                let key = (end.saturating_add(delay), self.made + index as u64);
                self.held.insert(key, (origin, span));
            } else {
                delivery.push((origin, span));
            }
        }
        Some(delivery)
    }

    fn due(&mut self, now: i64) -> Vec<(usize, Span)> {
        let later = self.held.split_off(&(now, 0));
        let due = std::mem::replace(&mut self.held, later);
        due.into_values().collect()
    }

    /// A trace that fits into what is left.
    fn make(&mut self, start: i64) -> Vec<(usize, Span)> {
        let left = self.span_count - self.made;
        for _ in 0..12 {
            let settlement_is_due = start >= self.next_settlement;
            let mut outbox = Vec::new();
            let mut spans = if self.batch_is_due(start) {
                self.make_batch(start)
            } else {
                let operation = if settlement_is_due {
                    &SETTLE
                } else {
                    choose_operation(&mut self.random)
                };
                let (spans, sent) = self.maker(start).make(operation, start);
                outbox = sent;
                spans
            };
            self.lose(&mut spans);
            self.repeat(&mut spans);
            // No trace, however rare, makes up a tenth of a small workload.
            let fits = spans.len() as u64 <= left.min(self.span_count / 10);
            if fits {
                self.outbox.extend(outbox);
                if settlement_is_due {
                    self.next_settlement =
                        (start.div_euclid(SETTLEMENT_NANO) + 1) * SETTLEMENT_NANO;
                }
                return spans;
            }
        }
        let maker = self.maker(start);
        maker.make(&GATE_HEALTH, start).0
    }

    fn maker(&mut self, start: i64) -> TraceMaker<'_> {
        let share = self.curve.elapsed_share(start);
        TraceMaker::new(&self.fleet, &mut self.random, share)
    }

    fn batch_is_due(&self, now: i64) -> bool {
        let oldest = self.outbox.front();
        self.outbox.len() >= BATCH || oldest.is_some_and(|sent| sent.nano + PATIENCE_NANO < now)
    }

    /// The messages that came within a while of the oldest, handled soon after the last of them.
    fn make_batch(&mut self, now: i64) -> Vec<(usize, Span)> {
        let oldest = self.outbox.front().map_or(now, |sent| sent.nano);
        let size = self
            .outbox
            .iter()
            .take(BATCH)
            .take_while(|sent| sent.nano < oldest + PATIENCE_NANO)
            .count();
        let messages: Vec<Sent> = self.outbox.drain(..size).collect();
        let sent = messages.iter().map(|message| message.nano).max();
        let wait = self
            .random
            .random_range(PATIENCE_NANO / 400..PATIENCE_NANO / 5);
        let start = sent.unwrap_or(now) + wait;
        self.maker(start).make_batch(&messages, start)
    }

    /// Now and then a span is lost on the way that had children.
    fn lose(&mut self, spans: &mut Vec<(usize, Span)>) {
        if spans.len() < 4 || self.random.random::<f64>() >= LOSS {
            return;
        }
        let index = self.random.random_range(1..spans.len());
        let lost = Some(spans[index].1.span_id);
        if spans.iter().any(|(_, span)| span.parent_span_id == lost) {
            spans.remove(index);
        }
    }

    /// Now and then a span is sent twice.
    fn repeat(&mut self, spans: &mut Vec<(usize, Span)>) {
        for index in 0..spans.len() {
            if self.random.random::<f64>() < REPEAT {
                let again = spans[index].clone();
                spans.push(again);
            }
        }
    }
}

fn choose_operation(random: &mut SmallRng) -> &'static Operation {
    let total: f64 = TRAFFIC.iter().map(|(_, weight)| weight).sum();
    let mut ticket = random.random::<f64>() * total;
    for (operation, weight) in &TRAFFIC {
        ticket -= weight;
        if ticket < 0.0 {
            return operation;
        }
    }
    &GATE_HEALTH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{SpanKind, StatusCode, Value};
    use std::collections::{HashMap, HashSet};

    const START: i64 = 1_763_683_200_000_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn spans(seed: u64, count: u64) -> Vec<(usize, Span)> {
        let mut workload = Workload::new(seed, count, START, DAY);
        let mut spans = Vec::new();
        while let Some(trace) = workload.next_trace() {
            spans.extend(trace);
        }
        spans
    }

    fn traces(spans: &[(usize, Span)]) -> HashMap<crate::span::TraceId, Vec<&Span>> {
        let mut traces: HashMap<_, Vec<&Span>> = HashMap::new();
        for (_, span) in spans {
            traces.entry(span.trace_id).or_default().push(span);
        }
        traces
    }

    #[test]
    fn the_same_seed_gives_the_same_spans_and_another_seed_others() {
        assert_eq!(spans(7, 3000), spans(7, 3000));
        assert_ne!(spans(7, 3000), spans(8, 3000));
    }

    #[test]
    fn the_count_is_exact_however_small() {
        for count in [0, 1, 2, 3, 9, 10, 57, 1000, 4321] {
            assert_eq!(spans(1, count).len() as u64, count);
        }
    }

    #[test]
    fn odd_time_ranges_neither_panic_nor_hang() {
        for (start, duration) in [
            (0, Duration::ZERO),
            (i64::MIN, Duration::MAX),
            (i64::MAX, Duration::MAX),
            (-1, Duration::from_nanos(1)),
        ] {
            let mut workload = Workload::new(3, 500, start, duration);
            let mut count = 0;
            while let Some(trace) = workload.next_trace() {
                count += trace.len();
            }
            assert_eq!(count, 500);
        }
    }

    #[test]
    fn spans_are_as_varied_as_promised() {
        let spans = spans(42, 60_000);
        let count = spans.len() as f64;
        let kinds: HashSet<SpanKind> = spans.iter().map(|(_, span)| span.kind).collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");

        let errors = spans
            .iter()
            .filter(|(_, span)| span.status_code == StatusCode::Error)
            .count() as f64;
        assert!((0.004..0.025).contains(&(errors / count)), "{errors}");
        let exceptions = spans.iter().flat_map(|(_, span)| &span.events).count();
        assert!(exceptions > 100, "{exceptions}");

        let values: Vec<&Value> = spans
            .iter()
            .flat_map(|(_, span)| span.attributes.iter().map(|(_, value)| value))
            .collect();
        for wanted in [
            |value: &Value| matches!(value, Value::Int(_)),
            |value: &Value| matches!(value, Value::Double(_)),
            |value: &Value| matches!(value, Value::Bool(_)),
            |value: &Value| matches!(value, Value::Array(_)),
            |value: &Value| matches!(value, Value::String(_)),
        ] {
            assert!(values.iter().any(|value| wanted(value)));
        }
        let users: HashSet<&String> = spans
            .iter()
            .flat_map(|(_, span)| &span.attributes)
            .filter_map(|(key, value)| match value {
                Value::String(text) if key == "user.id" => Some(text),
                _ => None,
            })
            .collect();
        assert!(users.len() > 1000, "{}", users.len());
        let status = spans
            .iter()
            .flat_map(|(_, span)| &span.attributes)
            .find(|(key, _)| key == "http.response.status_code");
        assert!(matches!(status, Some((_, Value::Int(_)))));
    }

    #[test]
    fn every_service_is_heard_of() {
        let mut workload = Workload::new(42, 60_000, START, DAY);
        let mut seen = HashSet::new();
        while let Some(trace) = workload.next_trace() {
            seen.extend(trace.iter().map(|(origin, _)| *origin));
        }
        let services: HashSet<String> = seen
            .iter()
            .map(|origin| format!("{:?}", workload.origin_parts()[*origin].0.attributes[0].1))
            .collect();
        assert_eq!(services.len(), 19, "{services:?}");
    }

    #[test]
    fn traces_have_the_sizes_and_shapes_of_real_ones() {
        let spans = spans(42, 60_000);
        let traces = traces(&spans);
        let mut sizes: Vec<usize> = traces.values().map(Vec::len).collect();
        sizes.sort_unstable();
        let median = sizes[sizes.len() / 2];
        assert!((5..25).contains(&median), "{median}");
        let high = sizes[sizes.len() * 99 / 100];
        assert!((40..200).contains(&high), "{high}");
        assert!(
            (200..5000).contains(sizes.last().unwrap()),
            "{:?}",
            sizes.last()
        );

        let mut outliving = 0;
        let mut skewed = 0;
        for trace in traces.values() {
            let by_id: HashMap<_, _> = trace.iter().map(|span| (span.span_id, *span)).collect();
            for span in trace {
                let Some(parent) = span.parent_span_id.and_then(|id| by_id.get(&id)) else {
                    continue;
                };
                let end = |span: &Span| span.start_time_unix_nano + span.duration_nano.unwrap();
                outliving +=
                    usize::from(span.kind == SpanKind::Consumer && end(span) > end(parent));
                skewed += usize::from(span.start_time_unix_nano < parent.start_time_unix_nano);
            }
        }
        assert!(outliving > 50, "{outliving}");
        assert!(skewed > 50, "{skewed}");
    }

    #[test]
    fn duplicates_orphans_and_late_spans_are_rare_but_there() {
        let spans = spans(42, 60_000);
        let mut seen = HashMap::new();
        let mut duplicates = 0;
        let mut late = 0;
        let mut last_of: HashMap<_, usize> = HashMap::new();
        for (index, (_, span)) in spans.iter().enumerate() {
            if let Some(first) = seen.insert((span.trace_id, span.span_id), span) {
                assert_eq!(first, span);
                duplicates += 1;
            }
            if let Some(before) = last_of.insert(span.trace_id, index) {
                late += usize::from(index - before > 200);
            }
        }
        assert!((40..400).contains(&duplicates), "{duplicates}");
        assert!((100..1200).contains(&late), "{late}");
        let orphans = spans
            .iter()
            .filter(|(_, span)| {
                span.parent_span_id
                    .is_some_and(|parent| !seen.contains_key(&(span.trace_id, parent)))
            })
            .count();
        assert!((5..400).contains(&orphans), "{orphans}");
    }

    #[test]
    fn links_lead_from_consumers_to_producers() {
        let spans = spans(42, 60_000);
        let by_id: HashMap<_, _> = spans
            .iter()
            .map(|(_, span)| ((span.trace_id, span.span_id), span))
            .collect();
        let mut within = 0;
        let mut across = 0;
        for (_, span) in &spans {
            for link in &span.links {
                assert_eq!(span.kind, SpanKind::Consumer);
                // The producer itself may be one of the lost spans.
                if let Some(target) = by_id.get(&(link.trace_id, link.span_id)) {
                    assert_eq!(target.kind, SpanKind::Producer);
                    assert!(target.start_time_unix_nano < span.start_time_unix_nano);
                    within += usize::from(link.trace_id == span.trace_id);
                    across += usize::from(link.trace_id != span.trace_id);
                }
            }
        }
        assert!(within > 50 && across > 50, "{within} {across}");
    }

    #[test]
    fn queries_repeat_within_one_parent_and_calls_are_retried() {
        let spans = spans(42, 60_000);
        let mut by_statement: HashMap<_, u32> = HashMap::new();
        let mut retries = 0;
        for (_, span) in &spans {
            if span.name == "SELECT order_line" {
                *by_statement.entry(span.parent_span_id).or_default() += 1;
            }
            retries += usize::from(
                span.attributes
                    .iter()
                    .any(|(key, _)| key == "http.request.resend_count"),
            );
        }
        assert!(by_statement.values().any(|count| *count >= 8));
        assert!(retries > 0);
    }

    #[test]
    fn both_sides_of_an_http_call_tell_the_same_status() {
        let spans = spans(42, 60_000);
        let status = |span: &Span| {
            let found = span
                .attributes
                .iter()
                .find(|(key, _)| key == "http.response.status_code");
            found.map(|(_, value)| format!("{value:?}"))
        };
        let by_id: HashMap<_, _> = spans
            .iter()
            .map(|(_, span)| ((span.trace_id, span.span_id), span))
            .collect();
        let mut seen = HashSet::new();
        for (_, server) in &spans {
            let client = server
                .parent_span_id
                .and_then(|parent| by_id.get(&(server.trace_id, parent)));
            if let (SpanKind::Server, Some(client)) = (server.kind, client) {
                assert_eq!(status(server), status(client), "{server:?}");
                seen.extend(status(server));
            }
        }
        for code in ["Int(200)", "Int(201)", "Int(304)", "Int(404)", "Int(500)"] {
            assert!(seen.contains(code), "{code} of {seen:?}");
        }
    }

    #[test]
    fn no_trace_however_large_stops_the_traffic() {
        let spans = spans(42, 60_000);
        let mut starts: Vec<i64> = spans
            .iter()
            .filter(|(_, span)| span.parent_span_id.is_none())
            .map(|(_, span)| span.start_time_unix_nano)
            .collect();
        starts.sort_unstable();
        let gap = starts.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gap.unwrap() < 15 * 60 * 1_000_000_000, "{gap:?}");
    }

    #[test]
    fn origins_and_their_parts_stand_side_by_side() {
        let workload = Workload::new(1, 10, START, DAY);
        assert_eq!(workload.origins().len(), workload.origin_parts().len());
        for (origin, (resource, scope)) in workload.origins().iter().zip(workload.origin_parts()) {
            assert_eq!(*origin, Origin::new(resource, scope));
        }
    }
}
