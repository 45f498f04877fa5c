//! A server whose disk is full or whose store fails: senders are told, nothing acknowledged is
//! lost, and the server goes on when the trouble is over.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::s3::Server as S3;
use crate::sandbox::Sandbox;
use crate::serve::{Running, request};
use crate::serve_crash::{serve_with, terminate};

/// A file system of few bytes, in memory; gone when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where nobody lets us mount one.
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        match mounted {
            Ok(status) if status.success() => Some(Self(directory)),
            _ => None,
        }
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(self.0.path())
            .status();
        assert!(grown.expect("there is a mount").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Sends request after request until one is refused; the number of that one.
async fn until_refused(client: &mut TraceServiceClient<Channel>, first: u64) -> u64 {
    for number in first..first + 5_000 {
        let spans = number * 50..(number + 1) * 50;
        let Err(status) = client.export(request(spans)).await else {
            continue;
        };
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(details.contains("google.rpc.RetryInfo"), "{status:?}");
        return number;
    }
    panic!("no request was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_what_was_acknowledged_stays() {
    let Some(disk) = SmallDisk::mount("512k") else {
        eprintln!("SKIPPED: a small file system cannot be mounted here; it takes root");
        return;
    };
    let location = disk.0.path().join("lake").to_string_lossy().into_owned();
    let settings = ["otlp.max_delay=5ms", "maintenance.compact=false"];
    let server = Running::start_at(&location, &settings).await;
    let mut client = server.grpc().await;
    let refused = until_refused(&mut client, 0).await;
    assert!(refused > 0, "the first had room");
    assert_eq!(server.count().await, 50 * refused as i64);
    // It goes on answering, and takes spans again when there is room.
    let refused = until_refused(&mut client, refused).await;
    disk.grow("64m");
    for number in refused..refused + 3 {
        let spans = number * 50..(number + 1) * 50;
        client.export(request(spans)).await.expect("there is room");
    }
    let names = "SELECT count(*) AS n, count(DISTINCT name) AS names FROM spans";
    let found = server.sql(names).await.json();
    let expected = 50 * (refused + 3);
    assert_eq!(
        (&found[0]["n"], &found[0]["names"]),
        (&expected.into(), &expected.into())
    );
    server.stop().await;
    let again = Running::start_at(&location, &settings).await;
    assert_eq!(again.count().await, expected as i64);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_is_told_and_what_was_acknowledged_stays() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let location = directory.path().join("lake").to_string_lossy().into_owned();
    let server = Running::start_at(&location, &["maintenance.compact=false"]).await;
    let mut client = server.grpc().await;
    client.export(request(0..50)).await.expect("it is taken");
    let (log, away) = (
        Path::new(&location).join("_delta_log"),
        Path::new(&location).join("away"),
    );
    std::fs::rename(&log, &away).expect("the log can be moved");
    // Nothing can be made below a file.
    std::fs::write(&log, "").expect("a file can be made");
    assert_eq!(until_refused(&mut client, 1).await, 1);
    std::fs::remove_file(&log).expect("it is a file");
    std::fs::rename(&away, &log).expect("the log can be moved back");
    client.export(request(50..100)).await.expect("it is taken");
    assert_eq!(server.count().await, 100);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_told_and_what_was_acknowledged_stays() {
    let store = S3::start().await;
    let sandbox = Sandbox::new();
    let start = || serve_with(&sandbox, "s3://bucket/a/lake", &store.settings(), &[]);
    let (mut child, addresses) = start();
    let address = addresses["OTLP over gRPC"];
    let client = TraceServiceClient::connect(format!("http://{address}")).await;
    let mut client = client.expect("it answers");
    for number in 0..3 {
        let spans = number * 50..(number + 1) * 50;
        client.export(request(spans)).await.expect("it is taken");
    }
    store.faults.refused.store(u32::MAX, Ordering::SeqCst);
    assert_eq!(until_refused(&mut client, 3).await, 3);
    store.faults.refused.store(0, Ordering::SeqCst);
    // The store recovers while a commit is under way: it is tried again.
    store.faults.refused.store(2, Ordering::SeqCst);
    let again = client.export(request(150..200));
    let again = tokio::time::timeout(Duration::from_secs(60), again).await;
    again.expect("it ends").expect("it is taken");
    let count = async |address: std::net::SocketAddr| {
        let sql = b"SELECT count(*) AS n, count(DISTINCT name) AS names FROM spans";
        let answer = crate::http_client::send(address, "POST", "/api/v1/sql", &[], sql).await;
        let found = answer.json();
        (found[0]["n"].as_u64(), found[0]["names"].as_u64())
    };
    assert_eq!(count(addresses["queries over HTTP"]).await.1, Some(200));
    terminate(&mut child);
    let (mut child, addresses) = start();
    assert_eq!(count(addresses["queries over HTTP"]).await.1, Some(200));
    terminate(&mut child);
}
