//! The binary as a shell sees it: help, exit codes, what goes to which stream.
//!
//! Everything here works without a lake on disk.

use std::process::{Command, Output};

fn tracelake(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracelake"))
        .args(arguments)
        .env_remove("TRACELAKE_LAKE")
        .env_remove("TRACELAKE_MEMORY_LIMIT")
        .env_remove("TRACELAKE_SPILL_DIR")
        .env_remove("TRACELAKE_THREADS")
        .env_remove("TRACELAKE_TRACE_MARGIN")
        .env_remove("TRACELAKE_TRACE_RANGE_ROWS")
        .env_remove("TRACELAKE_LOG")
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary was built with this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_goes_to_standard_output_and_lists_commands_and_exit_codes() {
    let output = tracelake(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for word in [
        "ingest",
        "query",
        "sql",
        "explain",
        "info",
        "compact",
        "expire",
        "vacuum",
        "demo",
        "generate",
        "Exit codes",
        "--lake",
        "--memory-limit",
    ] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
    assert!(output.stderr.is_empty());
}

#[test]
fn every_command_has_help() {
    for command in [
        "ingest", "query", "sql", "explain", "info", "compact", "expire", "vacuum", "demo",
        "generate",
    ] {
        let output = tracelake(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(text(&output.stdout).contains("Usage:"), "{command}");
    }
}

#[test]
fn the_version_is_that_of_the_crate() {
    let output = tracelake(&["--version"]);
    assert_eq!(
        text(&output.stdout).trim(),
        format!("tracelake {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_options_end_with_2_and_leave_standard_output_empty() {
    for arguments in [
        &["nonsense"][..],
        &["query", "SELECT 1"],
        &["query", "-c", "SELECT 1", "--param", "x"],
        &["query", "-c", "SELECT 1", "--output", "xml"],
        &["ingest"],
        &["expire"],
        &["expire", "--older-than", "soon"],
        &["info", "--memory-limit", "lots"],
        &["info", "--log", "tracelake=loud"],
        &["query"],
        &["query", "-c", "-- nothing"],
    ] {
        let output = tracelake(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_lake_that_is_not_there_ends_with_3_and_is_named() {
    for arguments in [
        &["--lake", "./no-lake-here", "info"][..],
        &["--lake", "./no-lake-here", "query", "-c", "SELECT 1"],
        &["--lake", "./no-lake-here", "sql"],
        &["--lake", "./no-lake-here", "compact"],
    ] {
        let output = tracelake(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.starts_with("error: "), "{message}");
        assert!(message.contains("no-lake-here"), "{message}");
    }
}

#[test]
fn an_input_that_is_not_there_ends_with_3_and_makes_no_lake() {
    let output = tracelake(&["--lake", "./never-made", "ingest", "no-such-file.json"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("no-such-file.json"));
    let lake = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("never-made");
    assert!(!lake.exists());
}

#[test]
fn a_script_that_is_not_there_ends_with_3() {
    let output = tracelake(&["query", "-f", "no-such-file.sql"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("no-such-file.sql"));
}

#[test]
fn the_readme_tells_of_every_command_and_option() {
    let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let help = text(&tracelake(&["--help"]).stdout);
    let (_, listed) = help.split_once("Commands:").unwrap();
    // A command's name stands alone before what it does; what it does may go on below.
    let commands = listed.lines().skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let mut missing = Vec::new();
    for name in names {
        if !readme.contains(&format!("[`{name}`]")) {
            missing.push(name.to_string());
        }
        let help = text(&tracelake(&[name, "--help"]).stdout);
        for line in help.lines().map(str::trim_start) {
            let words = line.split([' ', ',', '<', '[', '=']);
            let options = words.filter(|word| word.starts_with("--") && word.len() > 2);
            // Only where an option begins a line is it one of this command.
            for option in options.take(usize::from(line.starts_with('-'))) {
                if !readme.contains(&format!("`{option}"))
                    && !readme.contains(&format!("{option} "))
                {
                    missing.push(format!("{name} {option}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "README.md does not tell of {missing:?}");
}
