//! Long results through a pager, where a person looks at them.
//!
//! Read [`show`]. Short results and pipes are written as they are.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::terminal::Terminal;

/// Cuts long lines instead of wrapping them, keeps colours, leaves the text on the screen.
const DEFAULT_PAGER: &str = "less -SRFX";

/// What a shell says when it finds no such command.
const COMMAND_NOT_FOUND: i32 = 127;

/// Shows `text` on standard output, through `$PAGER` if it is longer than the screen.
pub(crate) fn show(text: &[u8], terminal: Terminal) -> io::Result<()> {
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    let fits = terminal.height().is_none_or(|height| lines + 1 < height);
    if !fits && terminal.stdin && page(text)? {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

/// Whether a pager took the text. An empty `PAGER` means that none is wanted.
fn page(text: &[u8]) -> io::Result<bool> {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| DEFAULT_PAGER.to_string());
    if pager.trim().is_empty() {
        return Ok(false);
    }
    let child = Command::new("sh")
        .args(["-c", &pager])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return Ok(false);
    };
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(text) {
            // The person saw enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    Ok(child.wait()?.code() != Some(COMMAND_NOT_FOUND))
}
