//! `tracelake vacuum`: files no version that is still read belongs to are deleted.

use serde_json::json;

use super::args::VacuumArgs;
use super::context::Context;
use super::exit::Exit;
use super::quantity::{bytes, counted};
use super::run::print;
use crate::Result;

pub(crate) fn run(context: &Context, args: &VacuumArgs) -> Result<Exit> {
    let lake = context.open_lake()?;
    let report =
        context.block_on(lake.vacuum(args.older_than, chrono::Utc::now(), args.dry_run))?;
    if args.json {
        let summary = json!({
            "dry_run": args.dry_run,
            "file_count": report.paths.len(),
            "byte_count": report.byte_count,
            "paths": report.paths,
        });
        print(&summary.to_string())?;
        return Ok(Exit::Success);
    }
    if args.dry_run && !report.paths.is_empty() {
        print(&report.paths.join("\n"))?;
    }
    let files = counted(report.paths.len() as u64, "file");
    let size = bytes(report.byte_count);
    print(&match (report.paths.len(), args.dry_run) {
        (0, _) => "nothing to delete".to_string(),
        (_, true) => format!("would delete {files} ({size})"),
        (_, false) => format!("deleted {files} ({size})"),
    })?;
    Ok(Exit::Success)
}
