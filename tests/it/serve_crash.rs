//! A server that is killed again and again, while senders send and files are merged: what was
//! acknowledged is in the lake, once.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;

use crate::crash::{assert_holds_the_first, jitter};
use crate::sandbox::Sandbox;
use crate::serve::request;

/// Spans of a request.
const SPANS: u64 = 20;

const SETTINGS: [&str; 9] = [
    "http.listen=127.0.0.1:0",
    "otlp.grpc=127.0.0.1:0",
    "otlp.http=127.0.0.1:0",
    "postgres.listen=off",
    "flight.listen=off",
    "otlp.max_delay=20ms",
    "maintenance.interval=50ms",
    "maintenance.quiet=0s",
    "maintenance.max_ingested_files=3",
];

/// Ten years: the numbered spans stay, those of 2001 go.
const EXPIRY: [&str; 1] = ["maintenance.retention_age=3652d"];

/// 2001-09-09.
const LONG_AGO: u64 = 1_000_000_000_000_000_000;

/// How often the server is killed.
fn kill_count() -> usize {
    let given = std::env::var("TRACELAKE_KILLS");
    given.map_or(10, |count| {
        count.parse().expect("TRACELAKE_KILLS is a number")
    })
}

/// Starts the binary and reads where it listens.
fn serve(sandbox: &Sandbox) -> (Child, HashMap<String, SocketAddr>) {
    serve_with(sandbox, "lake", &[], &EXPIRY)
}

/// The same on a lake at some place, with variables and settings.
pub(crate) fn serve_with(
    sandbox: &Sandbox,
    lake: &str,
    variables: &[(&str, &str)],
    more: &[&str],
) -> (Child, HashMap<String, SocketAddr>) {
    let mut arguments = vec!["--lake", lake, "serve"];
    for setting in SETTINGS.iter().chain(more) {
        arguments.extend(["--set", setting]);
    }
    let mut child = sandbox
        .command(&arguments)
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut addresses = HashMap::new();
    let mut said = Vec::new();
    for line in lines.by_ref() {
        let line = line.expect("it says text");
        if line.starts_with("ready") {
            break;
        }
        if let Some((what, address)) = line.split_once(" at ")
            && let Ok(address) = address.parse()
        {
            addresses.insert(what.to_string(), address);
        }
        said.push(line);
    }
    assert!(!addresses.is_empty(), "{said:?}");
    // What it says later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, addresses)
}

pub(crate) fn terminate(child: &mut Child) {
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.expect("there is a kill").success());
    assert!(child.wait().expect("it ends").success(), "it ends well");
}

/// Sends request after request, each until it is acknowledged.
async fn send(address: Arc<Mutex<SocketAddr>>, next: Arc<AtomicU64>, ends: Arc<AtomicBool>) {
    while !ends.load(Ordering::SeqCst) {
        let first = next.fetch_add(SPANS, Ordering::SeqCst);
        let request = request(first..first + SPANS);
        loop {
            let address = *address.lock().unwrap();
            let sent = async {
                let client = TraceServiceClient::connect(format!("http://{address}")).await;
                let mut client = client.map_err(|_| ())?;
                client.export(request.clone()).await.map_err(|_| ())
            };
            let sent = tokio::time::timeout(Duration::from_secs(5), sent).await;
            if let Ok(Ok(answer)) = sent {
                assert_eq!(answer.into_inner().partial_success, None);
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Sends spans that are beyond the retention.
async fn send_old(address: SocketAddr, round: u64) {
    let mut request = request(round * SPANS..(round + 1) * SPANS);
    for span in &mut request.resource_spans[0].scope_spans[0].spans {
        span.start_time_unix_nano = LONG_AGO;
        span.end_time_unix_nano = LONG_AGO;
    }
    if let Ok(mut client) = TraceServiceClient::connect(format!("http://{address}")).await {
        // Whether they are taken does not matter.
        let _ = client.export(request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_span_is_there_once_after_many_kills() {
    let sandbox = Sandbox::new();
    let grpc = "OTLP over gRPC";
    let (mut child, addresses) = serve(&sandbox);
    let address = Arc::new(Mutex::new(addresses[grpc]));
    let next = Arc::new(AtomicU64::new(0));
    let ends = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(send(
                Arc::clone(&address),
                Arc::clone(&next),
                Arc::clone(&ends),
            ))
        })
        .collect();
    for round in 0..kill_count() {
        let moment = Duration::from_millis(50).mul_f64(1.0 + 8.0 * jitter());
        let old = send_old(*address.lock().unwrap(), round as u64);
        // It may well be killed meanwhile.
        let old = tokio::time::timeout(moment, old);
        let (_, ()) = tokio::join!(old, tokio::time::sleep(moment));
        child.kill().expect("it runs");
        child.wait().expect("it is dead");
        let (again, addresses) = serve(&sandbox);
        child = again;
        *address.lock().unwrap() = addresses[grpc];
    }
    ends.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.await.expect("no sender panics");
    }
    // What came before the last kill has expired by now.
    let expired = async {
        while sandbox.number("SELECT count(*) FROM spans WHERE start_time < '2010-01-01'") > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let expired = tokio::time::timeout(Duration::from_secs(60), expired).await;
    expired.expect("the server drops what is too old");
    terminate(&mut child);
    let sent = next.load(Ordering::SeqCst);
    let before = sandbox.number("SELECT count(DISTINCT name) FROM spans");
    assert_eq!(before, sent, "all are there before compaction, too");
    sandbox.ok(&["compact"]);
    assert_holds_the_first(&sandbox, sent);
}

#[test]
fn a_wrong_configuration_is_named_and_nothing_is_made() {
    let sandbox = Sandbox::new();
    sandbox.write("t.toml", "[http]\nlisten = \"0.0.0.0:0\"\n");
    let output = sandbox.run(&["serve", "--config", "t.toml", "--check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("auth.tokens"));
    assert!(!sandbox.path("lake").exists());
    sandbox.write("t.toml", "[http]\nlisten = \"127.0.0.1:0\"\n");
    sandbox.ok(&["serve", "--config", "t.toml", "--check"]);
}
