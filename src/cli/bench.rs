//! `tracelake bench`: how fast the Rust API answers over a lake.
//!
//! Read [`run`]. Figures are of this process and this machine; files are in the system's cache,
//! since every trace is looked up once before anything is timed.

use std::time::Instant;

use arrow::array::AsArray;
use serde_json::json;

use super::args::BenchArgs;
use super::context::Context;
use super::exit::Exit;
use super::run::print;
use crate::engine::Lake;
use crate::search::TraceQuery;
use crate::span::TraceId;
use crate::{Config, Error, Result};

/// Ids spread over the lake: backwards, since a time may be written at the front of an id.
const IDS: &str = "SELECT trace_id FROM spans WHERE parent_span_id IS NULL \
                   GROUP BY trace_id ORDER BY reverse(trace_id) LIMIT ";

/// The service that most spans are of.
const BUSIEST: &str = "SELECT service_name FROM services ORDER BY span_count DESC, 1 LIMIT 1";

/// Bytes of traces that are kept where the cache is timed: more than any sample takes.
const CACHE_BYTES: usize = 2 << 30;

/// The traces a search is to find.
const FOUND: usize = 20;

pub(crate) fn run(context: &Context, args: &BenchArgs) -> Result<Exit> {
    let figures = context.block_on(measure(&context.lake_url, &context.config, args))?;
    print(&figures.to_string())?;
    Ok(Exit::Success)
}

async fn measure(url: &str, config: &Config, args: &BenchArgs) -> Result<serde_json::Value> {
    let mut config = config.clone();
    config.query.trace_cache_bytes = 0;
    let uncached = Lake::open(url, config.clone()).await?;
    config.query.trace_cache_bytes = CACHE_BYTES;
    let cached = Lake::open(url, config).await?;
    let ids = trace_ids(&uncached, args.ids).await?;
    let service = match &args.service {
        Some(service) => service.clone(),
        None => texts(&uncached, BUSIEST).await?.pop().unwrap_or_default(),
    };

    time_lookups(&uncached, &ids).await?;
    let mut one = Vec::new();
    for _ in 0..args.repeat {
        one.extend(time_lookups(&uncached, &ids).await?);
    }
    time_lookups(&cached, &ids).await?;
    let mut again = Vec::new();
    for _ in 0..args.repeat {
        again.extend(time_lookups(&cached, &ids).await?);
    }
    let mut all = Vec::new();
    for _ in 0..args.repeat {
        let begin = Instant::now();
        uncached.query_traces(&ids).await?;
        all.push(millis(begin));
    }
    let mut query = TraceQuery::new().with_limit(FOUND).with_service(&service);
    if let Some(condition) = &args.attributes {
        query = query.with_condition(condition.parse()?);
    }
    let mut searches = Vec::new();
    let mut found = 0;
    // The first one reads what the others find in memory.
    for _ in 0..=args.repeat {
        let begin = Instant::now();
        found = uncached.search(&query).await?.hits.len();
        searches.push(millis(begin));
    }
    let statistics = cached.trace_cache_statistics();
    Ok(json!({
        "ids": ids.len(),
        "repeat": args.repeat,
        "query_trace_uncached_p50_ms": quantile(&mut one, 0.5),
        "query_trace_uncached_p99_ms": quantile(&mut one, 0.99),
        "query_trace_cached_p50_ms": quantile(&mut again, 0.5),
        "query_trace_cached_p99_ms": quantile(&mut again, 0.99),
        "cache_hits": statistics.hit_count,
        "cache_misses": statistics.miss_count,
        "query_traces_ms": quantile(&mut all, 0.5),
        "service": service,
        "search_ms": quantile(&mut searches[1..], 0.5),
        "search_found": found,
    }))
}

/// Milliseconds of looking up each trace.
async fn time_lookups(lake: &Lake, ids: &[TraceId]) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(ids.len());
    for id in ids {
        let begin = Instant::now();
        let trace = lake.query_trace(*id, None).await?;
        times.push(millis(begin));
        if trace.is_none() {
            return Err(Error::not_found(format!(
                "a trace was taken out of the lake while it was measured; id=`{id}`"
            )));
        }
    }
    Ok(times)
}

async fn trace_ids(lake: &Lake, count: u32) -> Result<Vec<TraceId>> {
    let texts = texts(lake, &format!("{IDS}{count}")).await?;
    if texts.is_empty() {
        return Err(Error::not_found(
            "the lake has no traces to look up; take some in first",
        ));
    }
    texts.iter().map(|text| TraceId::parse(text)).collect()
}

/// The texts of a query's one column.
async fn texts(lake: &Lake, sql: &str) -> Result<Vec<String>> {
    let rows = lake
        .session()
        .await?
        .query(sql, &[])
        .await?
        .collect()
        .await?;
    let mut texts = Vec::new();
    for batch in rows {
        let column = batch.column(0).as_string_view_opt();
        texts.extend(column.into_iter().flatten().flatten().map(str::to_string));
    }
    Ok(texts)
}

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// One of some times, in their order.
fn quantile(times: &mut [f64], share: f64) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    let last = times.len().saturating_sub(1) as f64;
    times
        .get((last * share) as usize)
        .copied()
        .unwrap_or_default()
}
