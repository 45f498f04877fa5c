//! `tracelake info`: what is in the lake, and what it takes.

use serde_json::json;

use super::args::InfoArgs;
use super::context::Context;
use super::exit::Exit;
use super::quantity::{bytes, count, ratio, time};
use super::run::print;
use crate::Result;
use crate::engine::{ColumnSize, ColumnSizes, LakeInfo};

pub(crate) fn run(context: &Context, args: &InfoArgs) -> Result<Exit> {
    let lake = context.open_lake()?;
    let info = context.block_on(lake.info())?;
    let columns = if args.columns {
        Some(context.block_on(lake.column_sizes())?)
    } else {
        None
    };
    print(&if args.json {
        as_json(lake.url(), &info, columns.as_ref())
    } else {
        as_text(lake.url(), &info, columns.as_ref())
    })?;
    Ok(Exit::Success)
}

fn as_text(url: &str, info: &LakeInfo, columns: Option<&ColumnSizes>) -> String {
    let range = match (info.min_start_nano, info.max_start_nano) {
        (Some(first), Some(last)) => format!("{} to {}", time(first), time(last)),
        _ => "empty".to_string(),
    };
    let mut text = format!(
        "lake      {url}\n\
         version   {}\n\
         spans     {}\n\
         traces    {}\n\
         time      {range}\n\
         hours     {}\n\
         files     {} ({} as ingested, {} compacted)\n\
         bytes     {} ({:.1} bytes a span)",
        info.version,
        count(info.span_count),
        count(info.trace_count),
        count(info.hour_count),
        count(info.file_count),
        count(info.level0_file_count),
        count(info.file_count.saturating_sub(info.level0_file_count)),
        bytes(info.byte_count),
        ratio(info.byte_count, info.span_count),
    );
    if let Some(columns) = columns {
        text.push_str("\n\n");
        text.push_str(&column_table(columns, info.span_count));
    }
    text
}

/// The columns, those that take most first.
fn column_table(sizes: &ColumnSizes, span_count: u64) -> String {
    let mut columns: Vec<ColumnSize> = sizes.columns.clone();
    columns.push(ColumnSize {
        name: "(filters, indexes and footers)".to_string(),
        compressed_bytes: sizes.other_bytes,
        uncompressed_bytes: sizes.other_bytes,
    });
    columns.sort_by_key(|column| std::cmp::Reverse(column.compressed_bytes));
    let total: u64 = columns.iter().map(|column| column.compressed_bytes).sum();
    let name_width = columns
        .iter()
        .map(|column| column.name.chars().count())
        .max()
        .unwrap_or(0)
        .max("column".len());
    let mut lines = vec![format!(
        "{:name_width$}  {:>12}  {:>6}  {:>12}  {:>12}",
        "column", "bytes", "share", "bytes a span", "decompressed"
    )];
    lines.extend(columns.iter().map(|column| {
        format!(
            "{:name_width$}  {:>12}  {:>5.1}%  {:>12.2}  {:>12}",
            column.name,
            bytes(column.compressed_bytes),
            100.0 * ratio(column.compressed_bytes, total),
            ratio(column.compressed_bytes, span_count),
            bytes(column.uncompressed_bytes),
        )
    }));
    lines.join("\n")
}

fn as_json(url: &str, info: &LakeInfo, columns: Option<&ColumnSizes>) -> String {
    let mut summary = json!({
        "lake": url,
        "version": info.version,
        "span_count": info.span_count,
        "trace_count": info.trace_count,
        "min_start_time": info.min_start_nano.map(time),
        "max_start_time": info.max_start_nano.map(time),
        "hour_count": info.hour_count,
        "file_count": info.file_count,
        "level0_file_count": info.level0_file_count,
        "byte_count": info.byte_count,
    });
    if let Some(columns) = columns {
        let column = |column: &ColumnSize| {
            json!({
                "name": column.name,
                "compressed_bytes": column.compressed_bytes,
                "uncompressed_bytes": column.uncompressed_bytes,
            })
        };
        summary["columns"] = columns.columns.iter().map(column).collect();
        summary["other_bytes"] = columns.other_bytes.into();
    }
    summary.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_lake_is_described_without_a_time_range() {
        let text = as_text("./lake", &LakeInfo::default(), None);
        assert!(text.contains("time      empty"));
        assert!(text.contains("0.0 bytes a span"));
        let json = as_json("./lake", &LakeInfo::default(), None);
        let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        assert!(json["min_start_time"].is_null());
        assert!(json.get("columns").is_none());
    }

    #[test]
    fn columns_come_by_the_bytes_they_take() {
        let column = |name: &str, compressed_bytes| ColumnSize {
            name: name.to_string(),
            compressed_bytes,
            uncompressed_bytes: 2 * compressed_bytes,
        };
        let sizes = ColumnSizes {
            columns: vec![column("name", 10), column("trace_id", 30)],
            ..ColumnSizes::default()
        };
        let table = column_table(&sizes, 4);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("trace_id") && lines[1].contains("75.0%"));
        assert!(lines[2].starts_with("name") && lines[2].contains("2.50"));
    }
}
