//! What each kind of step leaves behind: the spans of calls, statements, messages and work.
//!
//! Read `TraceMaker::act`; the maker itself is `trace_maker.rs`.

use rand::Rng;

use crate::span::{Attributes, SpanId, SpanKind, StatusCode};

use super::attributes::{self, Failure, number, text};
use super::fleet::{Instrument, Pod};
use super::statements::Statement;
use super::topology::{Action, Entrance, Operation, SERVICES, Service};
use super::trace_maker::{
    Opening, Outcome, Request, Sent, TraceMaker, answer_attributes, link, slowness,
};

impl TraceMaker<'_> {
    /// One repetition of a step.
    pub(super) fn act(
        &mut self,
        action: &'static Action,
        operation: &'static Operation,
        pod: Pod,
        parent: SpanId,
        start: i64,
    ) -> Outcome {
        let service = operation.service;
        match action {
            Action::Call(callee) => self.call(callee, service, pod, parent, start),
            Action::Query(statement) => self.query(statement, service, pod, parent, start),
            Action::Publish(topic, consumer) => {
                let (sent, outcome) = self.publish(topic, service, pod, parent, start);
                self.consume(consumer, &sent);
                outcome
            }
            Action::Notify(topic) => {
                let (sent, outcome) = self.publish(topic, service, pod, parent, start);
                self.outbox.push(sent);
                outcome
            }
            Action::Work(name, micros) => {
                let micros = micros * slowness(service, pod);
                self.work(
                    name,
                    SpanKind::Internal,
                    micros,
                    service,
                    pod,
                    parent,
                    start,
                )
            }
            Action::Legacy(name, micros) => self.work(
                name,
                SpanKind::Unspecified,
                *micros,
                service,
                pod,
                parent,
                start,
            ),
            Action::External(method, host, path, micros, failure) => {
                let chance = failure * self.outage(host);
                self.external(
                    [method, host, path],
                    (*micros, chance),
                    service,
                    pod,
                    parent,
                    start,
                )
            }
        }
    }

    /// A call to another service, tried up to three times: a client's span for each attempt,
    /// and the server's where the attempt arrived.
    fn call(
        &mut self,
        callee: &'static Operation,
        service: Service,
        pod: Pod,
        parent: SpanId,
        start: i64,
    ) -> Outcome {
        let host = SERVICES[callee.service as usize].name;
        let path = self.path_of(callee);
        let mut now = start;
        for attempt in 0..3 {
            let (name, attributes) = match callee.entrance {
                Entrance::Grpc(service, method) => (
                    format!("{service}/{method}"),
                    attributes::grpc(service, method, host),
                ),
                Entrance::Http(method, _) => (
                    method.to_string(),
                    attributes::http_client(method, host, 8080, &path, attempt),
                ),
                Entrance::Consume(..) | Entrance::Job(_) => (host.to_string(), Vec::new()),
            };
            let opening = Opening {
                pod,
                instrument: Instrument::Rpc,
                kind: SpanKind::Client,
                name,
                attributes,
            };
            let index = self.open(opening, Some(parent), now);
            let wire = self.micros(260.0);
            let outcome = if self.chance(0.002) {
                let end = now + self.micros(400_000.0);
                Outcome::new(end, Some(Failure::connection(host)))
            } else {
                self.answer(
                    callee,
                    Request {
                        parent: Some(self.spans[index].1.span_id),
                        start: now + wire,
                        links: Vec::new(),
                        path: path.clone(),
                    },
                )
            };
            now = outcome.end + wire;
            let told = answer_attributes(callee, outcome.status, outcome.failure.as_ref());
            self.spans[index].1.attributes.extend(told);
            // Without an answer the exception is the client's own.
            let thrown = outcome.status.is_none();
            self.close(index, service, now, outcome.failure.as_ref(), thrown);
            self.mark_refused(index, callee, &outcome);
            if outcome.failure.is_none() || attempt == 2 || !self.chance(0.4) {
                return Outcome {
                    end: now,
                    ..outcome
                };
            }
            // Wait a little longer before each retry.
            now += self.micros(20_000.0 * (attempt + 1) as f64);
        }
        Outcome::new(now, None)
    }

    /// To a client, unlike a server, a refusal is an error: OpenTelemetry's conventions for HTTP.
    fn mark_refused(&mut self, index: usize, callee: &Operation, outcome: &Outcome) {
        let refused = outcome.status.filter(|status| (400..500).contains(status));
        if let (Entrance::Http(..), None, Some(status)) =
            (&callee.entrance, &outcome.failure, refused)
        {
            let span = &mut self.spans[index].1;
            span.status_code = StatusCode::Error;
            span.attributes.push(text("error.type", status.to_string()));
        }
    }

    fn query(
        &mut self,
        statement: &'static Statement,
        service: Service,
        pod: Pod,
        parent: SpanId,
        start: i64,
    ) -> Outcome {
        let target = if statement.collection.is_empty() {
            statement.system
        } else {
            statement.collection
        };
        let opening = Opening {
            pod,
            instrument: Instrument::Database,
            kind: SpanKind::Client,
            name: format!("{} {target}", statement.operation),
            attributes: attributes::database(statement, self.random),
        };
        let index = self.open(opening, Some(parent), start);
        let failed = self.chance(0.003);
        let failure = failed.then(|| Failure::database(statement, self.random));
        let micros = if failed { 900_000.0 } else { statement.micros };
        let end = start + self.micros(micros);
        if let Some(failure) = &failure {
            let error = text("error.type", failure.exception);
            self.spans[index].1.attributes.push(error);
        }
        self.close(index, service, end, failure.as_ref(), true);
        Outcome::new(end, failure)
    }

    fn external(
        &mut self,
        [method, host, path]: [&'static str; 3],
        (micros, chance): (f64, f64),
        service: Service,
        pod: Pod,
        parent: SpanId,
        start: i64,
    ) -> Outcome {
        let opening = Opening {
            pod,
            instrument: Instrument::Rpc,
            kind: SpanKind::Client,
            name: method.to_string(),
            attributes: attributes::http_client(method, host, 443, path, 0),
        };
        let index = self.open(opening, Some(parent), start);
        let failure = self.chance(chance).then(|| Failure::external(host));
        let status = if failure.is_some() { 503 } else { 200 };
        let attributes = &mut self.spans[index].1.attributes;
        attributes.push(number("http.response.status_code", status));
        if failure.is_some() {
            attributes.push(text("error.type", "503"));
        }
        let end = start + self.micros(micros);
        self.close(index, service, end, failure.as_ref(), true);
        Outcome::new(end, failure)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is one plain fact of the span"
    )]
    fn work(
        &mut self,
        name: &str,
        kind: SpanKind,
        micros: f64,
        service: Service,
        pod: Pod,
        parent: SpanId,
        start: i64,
    ) -> Outcome {
        let opening = Opening {
            pod,
            instrument: Instrument::Own,
            kind,
            name: name.to_string(),
            attributes: Attributes::new(),
        };
        let index = self.open(opening, Some(parent), start);
        let end = start + self.micros(micros);
        self.close(index, service, end, None, false);
        Outcome::new(end, None)
    }

    fn publish(
        &mut self,
        topic: &'static str,
        service: Service,
        pod: Pod,
        parent: SpanId,
        start: i64,
    ) -> (Sent, Outcome) {
        let mut attributes = attributes::messaging(topic, "send", "send", self.random);
        let size = self.random.random_range(200..4000);
        attributes.push(number("messaging.message.body.size", size));
        let opening = Opening {
            pod,
            instrument: Instrument::Messaging,
            kind: SpanKind::Producer,
            name: format!("send {topic}"),
            attributes,
        };
        let index = self.open(opening, Some(parent), start);
        let end = start + self.micros(1600.0);
        self.close(index, service, end, None, false);
        let sent = Sent {
            trace_id: self.trace_id,
            span_id: self.spans[index].1.span_id,
            nano: end,
        };
        (sent, Outcome::new(end, None))
    }

    /// The consumer's side of a message in this trace: it starts when it gets round to it,
    /// mostly after the producer's caller has long answered.
    fn consume(&mut self, consumer: &'static Operation, sent: &Sent) {
        let wait = self.micros(35_000.0);
        self.answer(
            consumer,
            Request {
                parent: Some(sent.span_id),
                start: sent.nano + wait,
                links: vec![link(sent, false)],
                path: String::new(),
            },
        );
    }
}
