//! Plays one operation through the platform and writes down its spans.
//!
//! Read [`TraceMaker`]. Spans come out parents first; losing, delaying and repeating some of
//! them on the way is the workload's matter.

use rand::Rng;
use rand::rngs::SmallRng;

use crate::span::{Attributes, Link, Span, SpanId, SpanKind, StatusCode, TraceId};

use super::attributes::{self, Failure, Visitor, number, text};
use super::fleet::{Fleet, Instrument, Pod};
use super::topology::{Entrance, NOTIFY_BATCH, Operation, SERVICES, Service, Step};

/// A producer's span whose message waits for the batch consumer.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    /// When it was sent.
    pub(super) nano: i64,
}

/// Makes the spans of one trace.
#[derive(Debug)]
pub(super) struct TraceMaker<'a> {
    fleet: &'a Fleet,
    pub(super) random: &'a mut SmallRng,
    /// How far into the time range the trace starts.
    share: f64,
    pub(super) trace_id: TraceId,
    trace_state: &'static str,
    visitor: Visitor,
    pub(super) spans: Vec<(usize, Span)>,
    /// For each span its true start, and how far its pod's clock is ahead.
    clocks: Vec<(i64, i64)>,
    pub(super) outbox: Vec<Sent>,
}

/// How a step ended.
pub(super) struct Outcome {
    pub(super) end: i64,
    pub(super) failure: Option<Failure>,
    /// The HTTP or gRPC status of an answer.
    pub(super) status: Option<i64>,
}

impl Outcome {
    /// What is no call ended at `end`.
    pub(super) fn new(end: i64, failure: Option<Failure>) -> Self {
        Self {
            end,
            failure,
            status: None,
        }
    }
}

/// What the callee is told.
pub(super) struct Request {
    pub(super) parent: Option<SpanId>,
    pub(super) start: i64,
    /// Spans a consumer points to.
    pub(super) links: Vec<Link>,
    pub(super) path: String,
}

/// A span's place and what it says of itself.
pub(super) struct Opening {
    pub(super) pod: Pod,
    pub(super) instrument: Instrument,
    pub(super) kind: SpanKind,
    pub(super) name: String,
    pub(super) attributes: Attributes,
}

impl<'a> TraceMaker<'a> {
    /// A maker of one trace that starts at `share` of the time range.
    pub(super) fn new(fleet: &'a Fleet, random: &'a mut SmallRng, share: f64) -> Self {
        let trace_id = random_trace_id(random);
        let visitor = Visitor::new(random);
        let trace_state = if random.random::<f64>() < 0.05 {
            "edge=canary"
        } else {
            ""
        };
        Self {
            fleet,
            random,
            share,
            trace_id,
            trace_state,
            visitor,
            spans: Vec::with_capacity(32),
            clocks: Vec::with_capacity(32),
            outbox: Vec::new(),
        }
    }

    /// The spans of `operation` started at `start`, with the index of each one's origin; and
    /// the messages sent to the batch consumer.
    pub(super) fn make(
        mut self,
        operation: &'static Operation,
        start: i64,
    ) -> (Vec<(usize, Span)>, Vec<Sent>) {
        let path = self.path_of(operation);
        self.answer(
            operation,
            Request {
                parent: None,
                start,
                links: Vec::new(),
                path,
            },
        );
        (self.spans, self.outbox)
    }

    /// The spans of a batch consumer that handles `messages` at `start`.
    pub(super) fn make_batch(mut self, messages: &[Sent], start: i64) -> Vec<(usize, Span)> {
        let links = messages.iter().map(|sent| link(sent, true)).collect();
        self.answer(
            &NOTIFY_BATCH,
            Request {
                parent: None,
                start,
                links,
                path: String::new(),
            },
        );
        if let Some((_, span)) = self.spans.first_mut() {
            let count = messages.len() as i64;
            span.attributes
                .push(number("messaging.batch.message_count", count));
        }
        self.spans
    }

    /// An operation at the side that answers: its own span and those of its steps.
    pub(super) fn answer(&mut self, operation: &'static Operation, request: Request) -> Outcome {
        let pod = self.fleet.pod(operation.service, self.share, self.random);
        let opening = self.describe(operation, pod, &request);
        let index = self.open(opening, request.parent, request.start);
        let parent = self.spans[index].1.span_id;
        self.spans[index].1.links = request.links;
        let own = self.micros(operation.micros * slowness(operation.service, pod));
        let mut now = request.start + own / 3;
        let mut failure = None;
        let mut refused = None;
        for step in operation.steps {
            let outcome = self.take(step, operation, pod, parent, now);
            now = outcome.end;
            refused = refused.or(outcome.status.filter(|status| (400..500).contains(status)));
            if outcome.failure.is_some() && self.chance(0.8) {
                failure = outcome.failure;
                break;
            }
        }
        now += own - own / 3;
        let own_fault = failure.is_none() && self.chance(operation.failure);
        if own_fault {
            failure = Some(Failure::own(
                SERVICES[operation.service as usize].name,
                self.random,
            ));
        }
        let status = self.choose_status(operation, failure.as_ref(), refused);
        let told = answer_attributes(operation, status, failure.as_ref());
        self.spans[index].1.attributes.extend(told);
        // What only passes through is an error of the span, but no exception of its own.
        let thrown = own_fault || self.chance(0.3);
        self.close(index, operation.service, now, failure.as_ref(), thrown);
        Outcome {
            end: now,
            failure,
            status,
        }
    }

    fn describe(&mut self, operation: &Operation, pod: Pod, request: &Request) -> Opening {
        let service = SERVICES[operation.service as usize].name;
        let (instrument, kind, name, attributes) = match operation.entrance {
            Entrance::Http(method, route) => {
                let edge = operation.service == Service::Gateway;
                let path = &request.path;
                let visitor = &self.visitor;
                let mut attributes =
                    attributes::http_server(method, route, path, visitor, edge, self.random);
                if operation.service == Service::Orders && method == "POST" {
                    attributes.extend(attributes::order(self.random));
                    attributes.push(text("user.id", self.visitor.user_id.as_str()));
                }
                (
                    Instrument::Rpc,
                    SpanKind::Server,
                    format!("{method} {route}"),
                    attributes,
                )
            }
            Entrance::Grpc(service_name, method) => (
                Instrument::Rpc,
                SpanKind::Server,
                format!("{service_name}/{method}"),
                attributes::grpc(service_name, method, service),
            ),
            Entrance::Consume(topic, group) => {
                let mut attributes =
                    attributes::messaging(topic, "process", "process", self.random);
                attributes.push(text("messaging.consumer.group.name", group));
                (
                    Instrument::Messaging,
                    SpanKind::Consumer,
                    format!("process {topic}"),
                    attributes,
                )
            }
            Entrance::Job(job) => (
                Instrument::Own,
                SpanKind::Internal,
                job.to_string(),
                vec![
                    text("supper.job.name", job),
                    text("supper.job.trigger", "timer"),
                ],
            ),
        };
        Opening {
            pod,
            instrument,
            kind,
            name,
            attributes,
        }
    }

    /// The status a server answers with; `refused` is that of a service it asked itself.
    fn choose_status(
        &mut self,
        operation: &Operation,
        failure: Option<&Failure>,
        refused: Option<i64>,
    ) -> Option<i64> {
        match operation.entrance {
            Entrance::Http(method, route) => Some(match (failure, refused) {
                (Some(failure), _) => failure.http_status,
                (None, Some(refused)) => refused,
                (None, None) => match refusal(route) {
                    Some((status, chance)) if self.chance(chance) => status,
                    _ if method == "POST" && self.chance(0.4) => 201,
                    _ => 200,
                },
            }),
            Entrance::Grpc(..) => Some(failure.map_or(0, |failure| failure.grpc_status)),
            Entrance::Consume(..) | Entrance::Job(_) => None,
        }
    }

    /// One step with all its repetitions.
    fn take(
        &mut self,
        step: &'static Step,
        operation: &'static Operation,
        pod: Pod,
        parent: SpanId,
        start: i64,
    ) -> Outcome {
        let mut outcome = Outcome::new(start, None);
        if self.share < step.after || !self.chance(step.chance) {
            return outcome;
        }
        let times = if step.repeat > 0.0 {
            // Batches differ more in size than what people do.
            let sigma = if step.repeat > 30.0 { 0.9 } else { 0.7 };
            (self.log_normal(step.repeat, sigma) as usize).clamp(1, 1500)
        } else {
            1
        };
        for index in 0..times {
            let begin = if step.parallel {
                start + index as i64 * 40_000
            } else {
                outcome.end
            };
            let one = self.act(&step.action, operation, pod, parent, begin);
            outcome.end = outcome.end.max(one.end);
            outcome.status = one.status;
            // A batch skips what fails and goes on.
            if one.failure.is_some() && step.repeat <= 30.0 {
                outcome.failure = one.failure;
                if !step.parallel {
                    break;
                }
            }
        }
        outcome
    }

    pub(super) fn open(&mut self, opening: Opening, parent: Option<SpanId>, start: i64) -> usize {
        let span_id = random_span_id(self.random);
        let mut span = Span::new(self.trace_id, span_id, start + opening.pod.skew_nano);
        span.parent_span_id = parent;
        span.name = opening.name;
        span.kind = opening.kind;
        span.attributes = opening.attributes;
        span.trace_state = self.trace_state.to_string();
        // Sampled; OTLP's bits 8 and 9 tell whether the parent is in another process.
        let remote = matches!(opening.kind, SpanKind::Server | SpanKind::Consumer);
        span.flags = Some(if remote && parent.is_some() {
            0x301
        } else {
            0x101
        });
        self.clocks.push((start, opening.pod.skew_nano));
        self.spans
            .push((opening.pod.origin(opening.instrument), span));
        self.spans.len() - 1
    }

    pub(super) fn close(
        &mut self,
        index: usize,
        service: Service,
        end: i64,
        failure: Option<&Failure>,
        thrown: bool,
    ) {
        let language = SERVICES[service as usize].language;
        // A few frameworks say that all went well; most leave it unsaid.
        let praised = language == "dotnet" && self.chance(0.5);
        let (started, skew) = self.clocks[index];
        let span = &mut self.spans[index].1;
        // The end is shown by the same clock as the start.
        span.duration_nano = Some((end - started).max(0));
        match failure {
            Some(failure) => {
                span.status_code = StatusCode::Error;
                span.status_message.clone_from(&failure.message);
                if thrown {
                    let time = end.max(started) + skew;
                    span.events
                        .push(attributes::exception(time, failure, language));
                }
            }
            None if praised => span.status_code = StatusCode::Ok,
            None => {}
        }
    }

    pub(super) fn path_of(&mut self, operation: &Operation) -> String {
        match operation.entrance {
            Entrance::Http(_, route) => attributes::fill_route(route, self.random),
            _ => String::new(),
        }
    }

    /// How many times more often a company outside fails: the bank has a bad half hour.
    pub(super) fn outage(&self, host: &str) -> f64 {
        if host.contains("bank") && (0.80..0.83).contains(&self.share) {
            30.0
        } else {
            1.0
        }
    }

    pub(super) fn chance(&mut self, chance: f64) -> bool {
        self.random.random::<f64>() < chance
    }

    /// Nanoseconds about a median of `micros`, log-normal with the long tail of real services.
    pub(super) fn micros(&mut self, micros: f64) -> i64 {
        (self.log_normal(micros, 0.55) * 1000.0) as i64
    }

    fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box and Muller's transform; one of its two values is enough here.
        let radius = (-2.0 * (1.0 - self.random.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.random.random::<f64>();
        median * (sigma * radius * angle.cos()).exp()
    }
}

/// The release that made prices slower, for whoever compares versions.
pub(super) fn slowness(service: Service, pod: Pod) -> f64 {
    match service {
        Service::Pricing if pod.renewed => 1.8,
        Service::Storefront if pod.renewed => 0.85,
        _ => 1.0,
    }
}

pub(super) fn link(sent: &Sent, of_batch: bool) -> Link {
    Link {
        trace_id: sent.trace_id,
        span_id: sent.span_id,
        trace_state: String::new(),
        attributes: if of_batch {
            vec![text("supper.link.reason", "batch")]
        } else {
            Attributes::new()
        },
        flags: Some(0x301),
        dropped_attributes_count: 0,
    }
}

/// The routes that refuse requests: with which status, and how often. An image that a client
/// has already is no refusal, but an answer of the same kind.
fn refusal(route: &str) -> Option<(i64, f64)> {
    Some(match route {
        "/v1/login" => (401, 0.06),
        "/v1/orders/{order_id}" => (404, 0.015),
        "/v1/kitchens/{kitchen_id}/menu" => (404, 0.006),
        "/v1/ratings" => (422, 0.02),
        "/v1/points" => (409, 0.02),
        "/images/{image_id}" => (304, 0.2),
        _ => return None,
    })
}

/// What the spans of an operation say of its answer.
pub(super) fn answer_attributes(
    operation: &Operation,
    status: Option<i64>,
    failure: Option<&Failure>,
) -> Attributes {
    let mut attributes = Attributes::new();
    let key = match operation.entrance {
        Entrance::Http(..) => "http.response.status_code",
        Entrance::Grpc(..) => "rpc.grpc.status_code",
        Entrance::Consume(..) | Entrance::Job(_) => "",
    };
    if let Some(status) = status {
        attributes.push(number(key, status));
    }
    if let Some(failure) = failure {
        attributes.push(match (&operation.entrance, status) {
            (Entrance::Http(..), Some(status)) => text("error.type", status.to_string()),
            _ => text("error.type", failure.exception),
        });
    }
    attributes
}

fn random_trace_id(random: &mut SmallRng) -> TraceId {
    loop {
        if let Some(id) = TraceId::from_bytes(random.random()) {
            return id;
        }
    }
}

fn random_span_id(random: &mut SmallRng) -> SpanId {
    loop {
        if let Some(id) = SpanId::from_bytes(random.random()) {
            return id;
        }
    }
}
