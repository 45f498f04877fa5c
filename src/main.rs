//! scratch
#![allow(missing_docs)]
use std::sync::Arc;
use tracelake::{Config, Lake, engine::*};
#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut config = Config::default();
    if let Ok(v) = std::env::var("BATCH") {
        config.ingest.batch_spans = v.parse().unwrap();
    }
    if std::env::var("NOPRUNE").is_ok() {
        config.query.pruning = false;
    }
    if std::env::var("STRICT").is_ok() {
        config.ingest.strict = true;
    }
    match a[1].as_str() {
        "ingest" => {
            let lake = Lake::create(&a[2], config).await.unwrap();
            let r = lake
                .ingest(
                    a[3..].iter().map(Source::path).collect(),
                    Arc::new(IngestProgress::default()),
                )
                .await;
            println!("{r:#?}");
            if let Ok(r) = r {
                println!(
                    "{:.0} spans/s",
                    r.span_count as f64 / r.elapsed.as_secs_f64()
                );
            }
        }
        "compact" => {
            let lake = Lake::open(&a[2], config).await.unwrap();
            println!(
                "{:#?}",
                lake.compact(Arc::new(|s| eprintln!("{s:?}"))).await
            );
        }
        "info" => {
            let lake = Lake::open(&a[2], config).await.unwrap();
            let i = lake.info().await.unwrap();
            println!("{i:?}");
            let n = i.span_count as f64;
            for c in &i.columns {
                println!(
                    "{:40} {:8.3} {:8.3}",
                    c.name,
                    c.compressed_bytes as f64 / n,
                    c.uncompressed_bytes as f64 / n
                );
            }
            println!(
                "other {:.3}; total {:.3}",
                i.other_bytes as f64 / n,
                i.byte_count as f64 / n
            );
        }
        "q" => {
            let t = std::time::Instant::now();
            let lake = Lake::open(&a[2], config).await.unwrap();
            let s = lake.session().await.unwrap();
            eprintln!("open {:?}", t.elapsed());
            let n: usize = a.get(4).map_or(1, |v| v.parse().unwrap());
            let mut times = vec![];
            for i in 0..n {
                let t = std::time::Instant::now();
                match s.query(&a[3], &[]).await {
                    Err(e) => {
                        println!("ERR {:?} {}", e.kind(), e.report());
                        return;
                    }
                    Ok(q) => match q.collect().await {
                        Err(e) => {
                            println!("ERR {:?} {}", e.kind(), e.report());
                            return;
                        }
                        Ok(b) => {
                            let e = t.elapsed();
                            times.push(e);
                            if i == 0 {
                                println!(
                                    "{}",
                                    arrow::util::pretty::pretty_format_batches(&b).unwrap()
                                );
                                eprintln!("first {e:?}");
                            }
                        }
                    },
                }
            }
            times.sort();
            eprintln!(
                "median {:?} min {:?} max {:?}",
                times[n / 2],
                times[0],
                times[n - 1]
            );
        }
        "ids" => {
            // lookups of the ids in a file, one by one
            let lake = Lake::open(&a[2], config).await.unwrap();
            let s = lake.session().await.unwrap();
            let ids = std::fs::read_to_string(&a[3]).unwrap();
            for round in 0..3 {
                let mut times = vec![];
                for id in ids.lines() {
                    let t = std::time::Instant::now();
                    let b = s
                        .query(
                            &format!(
                                "SELECT * FROM spans WHERE trace_id = '{id}' ORDER BY start_time"
                            ),
                            &[],
                        )
                        .await
                        .unwrap()
                        .collect()
                        .await
                        .unwrap();
                    assert!(b.iter().map(|b| b.num_rows()).sum::<usize>() > 0);
                    times.push(t.elapsed());
                }
                times.sort();
                eprintln!(
                    "round {round}: p50 {:?} p99 {:?} min {:?}",
                    times[times.len() / 2],
                    times[times.len() * 99 / 100],
                    times[0]
                );
            }
        }
        "x" => {
            let lake = Lake::open(&a[2], config).await.unwrap();
            println!(
                "{}",
                lake.session().await.unwrap().explain(&a[3]).await.unwrap()
            );
        }
        _ => {}
    }
}
