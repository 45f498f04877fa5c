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

/// Starts the binary and reads where it listens.
pub(crate) fn serve(sandbox: &Sandbox, more: &[&str]) -> (Child, HashMap<String, SocketAddr>) {
    let mut arguments = vec!["serve"];
    for setting in SETTINGS.iter().chain(more) {
        arguments.extend(["--set", setting]);
    }
    let mut child = sandbox
        .command(&arguments)
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

fn terminate(child: &mut Child) {
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

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_span_is_there_once_after_ten_kills() {
    let sandbox = Sandbox::new();
    let grpc = "OTLP over gRPC";
    let (mut child, addresses) = serve(&sandbox, &[]);
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
    for _ in 0..10 {
        let moment = Duration::from_millis(50).mul_f64(1.0 + 8.0 * jitter());
        tokio::time::sleep(moment).await;
        child.kill().expect("it runs");
        child.wait().expect("it is dead");
        let (again, addresses) = serve(&sandbox, &[]);
        child = again;
        *address.lock().unwrap() = addresses[grpc];
    }
    ends.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.await.expect("no sender panics");
    }
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
