//! Files that were damaged on disk: whoever reads them is told which, and nothing panics.

use std::fs;
use std::ops::Range;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracelake::config::QueryConfig;
use tracelake::{Config, Error, ErrorKind, Lake, Result};

use super::lakes::{fill_with_workload, rows, small_files};

/// Every column of every span, read by itself and by traces.
const QUESTIONS: [&str; 3] = [
    "SELECT * FROM span_tree",
    "SELECT * FROM traces",
    "SELECT * FROM service_edges",
];

fn config() -> Config {
    Config {
        query: QueryConfig::default(),
        ..small_files(true)
    }
}

/// The URL of a compacted lake in a directory, and the path of its largest file.
async fn workload_lake(directory: &tempfile::TempDir) -> (String, String) {
    let url = directory.path().to_string_lossy().into_owned();
    let lake = Lake::create(&url, config()).await.unwrap();
    fill_with_workload(&lake).await;
    lake.compact(Arc::new(|_| ())).await.unwrap();
    let session = lake.session().await.unwrap();
    let largest = "SELECT path FROM lake_files ORDER BY byte_count DESC LIMIT 1";
    let path = rows(&session, largest).await.remove(0).remove(0);
    (url, path)
}

async fn ask(lake: &Lake, sql: &str) -> Result<()> {
    let session = lake.session().await?;
    session.query(sql, &[]).await?.collect().await?;
    Ok(())
}

fn assert_named(error: &Error, path: &str, what: &str) {
    let kinds = [ErrorKind::Corrupt, ErrorKind::Unavailable];
    assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
    assert!(error.message().contains(path), "{what}: {error}");
}

/// Damages a file in one of several ways; `places` are the bytes that are there to damage.
fn damaged(kept: &[u8], places: Range<usize>, random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = kept.to_vec();
    match random.random_range(0..3) {
        0 => {
            for _ in 0..random.random_range(1..60) {
                bytes[random.random_range(places.clone())] = random.random();
            }
        }
        1 => {
            let start = random.random_range(places.clone());
            let end = places.end.min(start + 1000);
            bytes[start..end].fill(0);
        }
        _ => bytes.truncate(random.random_range(0..kept.len())),
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_named_by_whoever_reads_traces() {
    let directory = tempfile::tempdir().unwrap();
    let (url, path) = workload_lake(&directory).await;
    let file = directory.path().join(&path);
    let kept = fs::read(&file).unwrap();
    let mut random = SmallRng::seed_from_u64(1);
    let mut failed = 0;
    for round in 0..20 {
        fs::write(&file, damaged(&kept, 4..kept.len(), &mut random)).unwrap();
        let lake = Lake::open(&url, config()).await.unwrap();
        for sql in QUESTIONS {
            // Pages have no checksums: some damage reads as other values.
            if let Err(error) = ask(&lake, sql).await {
                assert_named(&error, &path, &format!("round {round}: {sql}"));
                failed += 1;
            }
        }
    }
    assert!(failed > 30, "{failed} of 60 were noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_names_the_files_it_was_reading() {
    let directory = tempfile::tempdir().unwrap();
    let (url, path) = workload_lake(&directory).await;
    let file = directory.path().join(&path);
    let mut bytes = fs::read(&file).unwrap();
    bytes[4..20_000].fill(0);
    fs::write(&file, bytes).unwrap();
    let lake = Lake::open(&url, config()).await.unwrap();
    let error = ask(&lake, "SELECT * FROM spans").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.message().contains(&path), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_query_gets_wrong_is_not_blamed_on_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let (url, _) = workload_lake(&directory).await;
    let lake = Lake::open(&url, config()).await.unwrap();
    for relation in ["span_tree", "spans"] {
        let sql = format!("SELECT trace_id FROM {relation} WHERE CAST(name AS BIGINT) = 1");
        let error = ask(&lake, &sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(!error.message().contains(".parquet"), "{error}");
    }
}
