//! `tracelake expire`: whole hours that are old enough leave the lake.

use serde_json::json;

use super::args::ExpireArgs;
use super::context::Context;
use super::exit::Exit;
use super::quantity::{bytes, counted};
use super::run::print;
use crate::Result;

pub(crate) fn run(context: &Context, args: &ExpireArgs) -> Result<Exit> {
    let lake = context.open_lake()?;
    let report = context.block_on(lake.expire(args.older_than, chrono::Utc::now()))?;
    print(&if args.json {
        json!({
            "hour_count": report.hour_count,
            "file_count": report.file_count,
            "span_count": report.span_count,
            "byte_count": report.byte_count,
        })
        .to_string()
    } else if report.file_count == 0 {
        "nothing is that old".to_string()
    } else {
        format!(
            "expired {} of {} in {} ({}); `tracelake vacuum` deletes the files",
            counted(report.span_count, "span"),
            counted(report.hour_count, "hour"),
            counted(report.file_count, "file"),
            bytes(report.byte_count),
        )
    })?;
    Ok(Exit::Success)
}
