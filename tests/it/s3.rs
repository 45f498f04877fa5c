//! A lake on an S3 server that this test runs itself, and that fails on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::S3Result;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tracelake::config::StorageConfig;
use tracelake::span::{Origin, Resource, Scope, Span, SpanBatchBuilder, SpanId, TraceId};
use tracelake::storage::{
    Log, Operation, Store, StoreOptions, TraceFilters, choose_compaction, compact, write_batch,
};
use tracelake::{Error, ErrorKind};

/// What the server does to the next requests.
#[derive(Default)]
pub(crate) struct Faults {
    /// So many are answered with 503.
    pub(crate) refused: AtomicU32,
    /// So many are never answered.
    hung: AtomicU32,
}

struct FaultyAccess(Arc<Faults>);

fn take_one(count: &AtomicU32) -> bool {
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

#[async_trait::async_trait]
impl S3Access for FaultyAccess {
    async fn check(&self, _context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if take_one(&self.0.refused) {
            return Err(s3s::s3_error!(ServiceUnavailable, "injected"));
        }
        if take_one(&self.0.hung) {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        Ok(())
    }
}

pub(crate) struct Server {
    pub(crate) faults: Arc<Faults>,
    endpoint: String,
    _root: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        let faults = Arc::new(Faults::default());
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("key", "secret"));
        builder.set_access(FaultyAccess(Arc::clone(&faults)));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self {
            faults,
            endpoint,
            _root: root,
        }
    }

    /// How a client finds it: names and values of variables.
    pub(crate) fn settings(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    fn store(&self) -> Store {
        let settings = self.settings();
        let options = StoreOptions {
            max_retries: 3,
            first_backoff: Duration::from_millis(20),
            retry_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_millis(700),
            settings: settings.map(|(k, v)| (k.into(), v.into())).to_vec(),
            ..StoreOptions::default()
        };
        Store::open_with("s3://bucket/a/lake", &options).unwrap()
    }
}

async fn append(log: &Log, number: u64) -> Result<(), Error> {
    let origin = Origin::new(&Resource::default(), &Scope::default());
    let trace = TraceId::from_bytes(u128::from(number).to_be_bytes()).unwrap();
    let mut builder = SpanBatchBuilder::new();
    for span in 1..=10u64 {
        let id = SpanId::from_bytes((number * 100 + span).to_be_bytes()).unwrap();
        builder.push(&origin, &Span::new(trace, id, 1));
    }
    let config = StorageConfig::default();
    let files = write_batch(log.store(), &config, builder.finish(), 1).await?;
    log.commit(&files, &[], Operation::Append).await.map(|_| ())
}

#[tokio::test]
async fn a_lake_on_s3_is_written_compacted_and_read() {
    let server = Server::start().await;
    let missing = Log::open(server.store()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{}", missing.report());
    let log = Log::create(server.store()).await.unwrap();
    for number in 1..=3 {
        append(&log, number).await.unwrap();
    }
    let config = StorageConfig::default();
    for choice in choose_compaction(&log.snapshot(), &config) {
        assert!(compact(&log, &config, &choice).await.unwrap().committed);
    }
    let opened = Log::open(server.store()).await.unwrap();
    let snapshot = opened.snapshot();
    assert_eq!((snapshot.file_count(), snapshot.row_count()), (1, 30));
    let filters = TraceFilters::new(1 << 20);
    let file = snapshot.files().next().unwrap();
    let ids = [TraceId::from_bytes(2u128.to_be_bytes()).unwrap()];
    assert!(
        filters
            .may_contain(opened.store(), file, &ids)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn passing_faults_are_retried_and_nothing_is_lost_or_doubled() {
    let server = Server::start().await;
    let log = Log::create(server.store()).await.unwrap();
    for number in 1..=4 {
        server.faults.refused.store(2, Ordering::SeqCst);
        append(&log, number).await.unwrap();
    }
    server.faults.hung.store(1, Ordering::SeqCst);
    append(&log, 5).await.unwrap();
    server.faults.refused.store(0, Ordering::SeqCst);
    let snapshot = Log::open(server.store()).await.unwrap().snapshot();
    assert_eq!((snapshot.file_count(), snapshot.row_count()), (5, 50));
}

#[tokio::test]
async fn a_lasting_fault_ends_in_a_clear_error_within_seconds() {
    let server = Server::start().await;
    let log = Log::create(server.store()).await.unwrap();
    append(&log, 1).await.unwrap();
    for hang in [false, true] {
        let fault = if hang {
            &server.faults.hung
        } else {
            &server.faults.refused
        };
        fault.store(u32::MAX, Ordering::SeqCst);
        let begun = Instant::now();
        let error = append(&log, 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
        assert!(error.message().contains("parquet"), "{}", error.report());
        let error = log.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
        assert!(begun.elapsed() < Duration::from_secs(20));
        fault.store(0, Ordering::SeqCst);
    }
    assert_eq!(log.refresh().await.unwrap().row_count(), 10);
}
