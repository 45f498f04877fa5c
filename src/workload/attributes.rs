//! The attributes of spans, by OpenTelemetry's semantic conventions.
//!
//! Read [`Visitor`]: who a trace is made for. Keys under `supper.` are the platform's own.

use rand::Rng;
use rand::rngs::SmallRng;

use crate::span::{Attributes, Event, Value};

use super::statements::Statement;

/// An attribute of text.
pub(super) fn text(key: &str, value: impl Into<String>) -> (String, Value) {
    (key.to_string(), Value::String(value.into()))
}

/// An attribute that is an integer.
pub(super) fn number(key: &str, value: i64) -> (String, Value) {
    (key.to_string(), Value::Int(value))
}

const USER_COUNT: f64 = 180_000.0;
const AGENTS: [&str; 6] = [
    "SupperApp/9.4.1 (Android 15; Pixel 9)",
    "SupperApp/9.4.0 (iOS 19.1; iPhone17,2)",
    "SupperApp/9.2.7 (Android 13; SM-A546B)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_1) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Safari/605.1.15",
    "SupperCourier/4.0.2 (Android 14)",
];
const COUNTRIES: [&str; 5] = ["SE", "FI", "DK", "NO", "EE"];
const CUISINES: [&str; 8] = [
    "thai",
    "pizza",
    "sushi",
    "tacos",
    "indisk mat",
    "smörgås",
    "拉麵",
    "vegan",
];

/// Who a trace is made for.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) user_id: String,
    session_id: String,
    address: String,
    agent: &'static str,
    country: &'static str,
}

impl Visitor {
    /// A visitor; few of them come often, most seldom.
    pub(super) fn new(random: &mut SmallRng) -> Self {
        let rank = random.random::<f64>().powi(3) * USER_COUNT;
        let user = rank as u64;
        Self {
            user_id: format!("u-{user:06}"),
            session_id: format!("{:016x}", random.random::<u64>()),
            address: format!("203.0.{}.{}", user / 251 % 256, user % 251),
            agent: AGENTS[random.random_range(0..AGENTS.len())],
            country: COUNTRIES[(user % 17 % 5) as usize],
        }
    }
}

/// The path a route stands for, with ids in place of its parameters.
pub(super) fn fill_route(route: &str, random: &mut SmallRng) -> String {
    let mut path = String::with_capacity(route.len() + 16);
    let mut rest = route;
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(before);
        let Some((parameter, tail)) = after.split_once('}') else {
            break;
        };
        let id = match parameter {
            "kitchen_id" => format!("k{}", (random.random::<f64>().powi(2) * 1200.0) as u64),
            "image_id" => format!("{:012x}.webp", random.random::<u64>() >> 16),
            "account_id" => format!("u-{:06}", random.random_range(0..USER_COUNT as u64)),
            _ => format!("{:010}", random.random_range(1u64 << 30..1 << 33)),
        };
        path.push_str(&id);
        rest = tail;
    }
    path.push_str(rest);
    path
}

/// What the server of an HTTP request records, its status code aside.
pub(super) fn http_server(
    method: &str,
    route: &str,
    path: &str,
    visitor: &Visitor,
    at_the_edge: bool,
    random: &mut SmallRng,
) -> Attributes {
    let mut attributes = Attributes::with_capacity(13);
    attributes.push(text("http.request.method", method));
    attributes.push(text("http.route", route));
    attributes.push(text("url.path", path));
    attributes.push(text(
        "url.scheme",
        if at_the_edge { "https" } else { "http" },
    ));
    attributes.push(text(
        "network.protocol.version",
        if at_the_edge { "2" } else { "1.1" },
    ));
    if route.ends_with("/search") {
        let cuisine = CUISINES[random.random_range(0..CUISINES.len())];
        attributes.push(text("url.query", format!("q={cuisine}")));
    }
    if at_the_edge && route != "/healthz" {
        attributes.push(text("user_agent.original", visitor.agent));
        attributes.push(text("client.address", visitor.address.as_str()));
        attributes.push(text("user.id", visitor.user_id.as_str()));
        attributes.push(text("session.id", visitor.session_id.as_str()));
        attributes.push(text("geo.country.iso_code", visitor.country));
    } else if at_the_edge {
        attributes.push(text("user_agent.original", "kube-probe/1.34"));
    }
    if method == "POST" {
        let size = random.random_range(40..2400);
        attributes.push(number("http.request.body.size", size));
    }
    attributes
}

/// What the client of an HTTP request records, its status code aside.
pub(super) fn http_client(
    method: &str,
    host: &str,
    port: i64,
    path: &str,
    resend_count: i64,
) -> Attributes {
    let scheme = if port == 443 { "https" } else { "http" };
    let mut attributes = Attributes::with_capacity(8);
    attributes.push(text("http.request.method", method));
    attributes.push(text("url.full", format!("{scheme}://{host}:{port}{path}")));
    attributes.push(text("server.address", host));
    attributes.push(number("server.port", port));
    if resend_count > 0 {
        attributes.push(number("http.request.resend_count", resend_count));
    }
    attributes
}

/// What both sides of a gRPC call record, its status code aside.
pub(super) fn grpc(service: &str, method: &str, host: &str) -> Attributes {
    let mut attributes = Attributes::with_capacity(8);
    attributes.push(text("rpc.system", "grpc"));
    attributes.push(text("rpc.service", service));
    attributes.push(text("rpc.method", method));
    attributes.push(text("server.address", host));
    attributes.push(number("server.port", 50051));
    attributes
}

/// What a database client records.
pub(super) fn database(statement: &Statement, random: &mut SmallRng) -> Attributes {
    let mut attributes = Attributes::with_capacity(9);
    attributes.push(text("db.system.name", statement.system));
    attributes.push(text("db.namespace", statement.namespace));
    if !statement.collection.is_empty() {
        attributes.push(text("db.collection.name", statement.collection));
    }
    attributes.push(text("db.operation.name", statement.operation));
    let query = match statement.text.split_once("{}") {
        None => statement.text.to_string(),
        Some((before, after)) => {
            let key = (random.random::<f64>().powi(3) * USER_COUNT) as u64;
            format!("{before}{key}{after}")
        }
    };
    attributes.push(text("db.query.text", query));
    attributes.push(text(
        "server.address",
        format!(
            "{}.{}.db.supper.internal",
            statement.namespace, statement.system
        ),
    ));
    if statement.operation == "SELECT" || statement.operation == "find" {
        let rows = (random.random::<f64>().powi(4) * 60.0) as i64;
        attributes.push(number("db.response.returned_rows", rows));
    }
    attributes
}

/// What producers and consumers of a message record.
pub(super) fn messaging(
    topic: &str,
    operation: &str,
    operation_type: &str,
    random: &mut SmallRng,
) -> Attributes {
    let mut attributes = Attributes::with_capacity(10);
    attributes.push(text("messaging.system", "kafka"));
    attributes.push(text("messaging.destination.name", topic));
    attributes.push(text("messaging.operation.name", operation));
    attributes.push(text("messaging.operation.type", operation_type));
    let partition = random.random_range(0..12);
    attributes.push(text(
        "messaging.destination.partition.id",
        partition.to_string(),
    ));
    attributes.push(number(
        "messaging.kafka.offset",
        random.random_range(1_000_000..90_000_000),
    ));
    attributes
}

/// What the order service says of the order it takes: values of every type.
pub(super) fn order(random: &mut SmallRng) -> Attributes {
    let items = random.random_range(1..9i64);
    let cents = items * random.random_range(690..2490i64);
    let tags = (0..random.random_range(1..4))
        .map(|_| Value::String(CUISINES[random.random_range(0..CUISINES.len())].to_string()))
        .collect();
    vec![
        number("supper.order.item_count", items),
        (
            "supper.order.total".to_string(),
            Value::Double(cents as f64 / 100.0),
        ),
        (
            "supper.order.first".to_string(),
            Value::Bool(random.random::<f64>() < 0.08),
        ),
        ("supper.order.tags".to_string(), Value::Array(tags)),
    ]
}

/// The event by which a span tells of an exception.
pub(super) fn exception(time_unix_nano: i64, failure: &Failure, language: &str) -> Event {
    let kind = failure.exception;
    let place = failure.place;
    let stack = match language {
        "java" => format!(
            "{kind}: {}\n\tat com.supper.{place}.handle({place}.java:118)\n\tat com.supper.http.Router.dispatch(Router.java:64)\n\tat java.base/java.lang.Thread.run(Thread.java:1583)",
            failure.message
        ),
        "python" => format!(
            "Traceback (most recent call last):\n  File \"/app/{place}.py\", line 77, in handle\n    result = await step(message)\n{kind}: {}",
            failure.message
        ),
        _ => format!("{kind}: {}\n    at {place}\n    at main", failure.message),
    };
    Event {
        time_unix_nano,
        name: "exception".to_string(),
        attributes: vec![
            text("exception.type", kind),
            text("exception.message", failure.message.as_str()),
            text("exception.stacktrace", stack),
        ],
        dropped_attributes_count: 0,
    }
}

/// Why something failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// The exception's type.
    pub(super) exception: &'static str,
    /// What it says.
    pub(super) message: String,
    /// Where it was thrown.
    pub(super) place: &'static str,
    /// The HTTP status a server answers with because of it.
    pub(super) http_status: i64,
    /// The gRPC status a server answers with because of it.
    pub(super) grpc_status: i64,
}

impl Failure {
    /// A defect in a service's own code.
    pub(super) fn own(place: &'static str, random: &mut SmallRng) -> Self {
        let (exception, message) = match random.random_range(0..4) {
            0 => (
                "IllegalStateException",
                "unexpected state: DRAFT".to_string(),
            ),
            1 => (
                "NullPointerException",
                "value of kitchen.zone is null".to_string(),
            ),
            2 => (
                "ValidationError",
                format!("dish {} is sold out", random.random_range(100..9000)),
            ),
            _ => ("TimeoutError", "no answer in time".to_string()),
        };
        Self {
            exception,
            message,
            place,
            http_status: 500,
            grpc_status: 13,
        }
    }

    /// A statement that a database did not answer.
    pub(super) fn database(statement: &Statement, random: &mut SmallRng) -> Self {
        let (exception, message) = if random.random::<bool>() {
            (
                "QueryTimeoutException",
                format!("{} took longer than allowed", statement.operation),
            )
        } else {
            (
                "ConnectionResetError",
                format!("connection to {} was reset", statement.system),
            )
        };
        Self {
            exception,
            message,
            place: statement.namespace,
            http_status: 503,
            grpc_status: 14,
        }
    }

    /// A company outside that answered with 503, or not at all.
    pub(super) fn external(host: &'static str) -> Self {
        Self {
            exception: "UpstreamUnavailable",
            message: format!("{host} answered 503"),
            place: host,
            http_status: 502,
            grpc_status: 14,
        }
    }

    /// A peer that could not be reached.
    pub(super) fn connection(host: &'static str) -> Self {
        Self {
            exception: "ConnectException",
            message: format!("connection refused: {host}"),
            place: host,
            http_status: 503,
            grpc_status: 14,
        }
    }
}
