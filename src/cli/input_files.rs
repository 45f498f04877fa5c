//! The files that `ingest` is to read: patterns, directories and `-` spelled out.
//!
//! Read [`expand`]. What is in the files is the ingest room's matter.

use std::path::{Path, PathBuf};

use crate::engine::{Source, SourceKind};
use crate::ingest::Format;
use crate::{Error, Result};

/// The endings of files that are taken out of a directory without being named.
const ENDINGS: [&str; 9] = [
    "json", "jsonl", "ndjson", "pb", "proto", "bin", "otlp", "log", "txt",
];

/// The endings of compressed files; what stands before is looked at as well.
const COMPRESSED: [&str; 4] = ["gz", "gzip", "zst", "zstd"];

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct InputFiles {
    /// In the order given, a directory's files by name.
    pub(crate) sources: Vec<Source>,
    /// Files in directories whose names say nothing of traces.
    pub(crate) passed_over: u64,
}

/// Spells out `patterns`. A name that matches nothing is an error.
pub(crate) fn expand(patterns: &[String], format: Option<Format>) -> Result<InputFiles> {
    let mut found = InputFiles::default();
    for pattern in patterns {
        if pattern == "-" {
            found.sources.push(Source {
                name: "standard input".to_string(),
                kind: SourceKind::Stdin,
                format,
            });
            continue;
        }
        // A file may be called `a[1].json`: its own name goes before the pattern.
        let path = Path::new(pattern);
        if path.exists() {
            found.add(path, format)?;
            continue;
        }
        let paths = glob::glob(pattern).map_err(|error| {
            Error::invalid_input(format!("`{pattern}` is no file and no pattern"))
                .with_source(error)
        })?;
        let mut matched = false;
        for path in paths {
            let path = path.map_err(|error| {
                Error::invalid_input(format!("cannot read `{}`", error.path().display()))
                    .with_source(error)
            })?;
            matched = true;
            found.add(&path, format)?;
        }
        if !matched {
            return Err(Error::not_found(format!(
                "no file is called or matches `{pattern}`"
            )));
        }
    }
    if found.sources.is_empty() {
        return Err(Error::not_found(format!(
            "there is no trace file in {}; name the files, or give --format to read all of them",
            patterns.join(", ")
        )));
    }
    Ok(found)
}

impl InputFiles {
    fn add(&mut self, path: &Path, format: Option<Format>) -> Result<()> {
        if path.is_dir() {
            self.add_directory(path, format)
        } else {
            self.add_file(path.to_path_buf(), format);
            Ok(())
        }
    }

    fn add_file(&mut self, path: PathBuf, format: Option<Format>) {
        self.sources.push(Source {
            name: path.display().to_string(),
            kind: SourceKind::Path(path),
            format,
        });
    }

    fn add_directory(&mut self, directory: &Path, format: Option<Format>) -> Result<()> {
        let cannot_read = |error| {
            Error::invalid_input(format!("cannot read directory `{}`", directory.display()))
                .with_source(error)
        };
        let mut entries = directory
            .read_dir()
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(cannot_read)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            // A link to a directory could lead back here; one to a file cannot.
            if entry.file_type().map_err(cannot_read)?.is_dir() {
                self.add_directory(&path, format)?;
            } else if path.is_file() && (format.is_some() || may_hold_traces(&path)) {
                self.add_file(path, format);
            } else {
                self.passed_over += 1;
            }
        }
        Ok(())
    }
}

fn may_hold_traces(path: &Path) -> bool {
    let ending = |path: &Path| {
        let extension = path.extension()?.to_str()?;
        Some(extension.to_ascii_lowercase())
    };
    match ending(path) {
        Some(last) if COMPRESSED.contains(&last.as_str()) => {
            ending(&path.with_extension("")).is_none_or(|inner| ENDINGS.contains(&inner.as_str()))
        }
        Some(last) => ENDINGS.contains(&last.as_str()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory can be made");
        std::fs::create_dir_all(root.path().join("b/deep")).expect("the directory is writable");
        for name in [
            "a[1].json",
            "b/2.jsonl.gz",
            "b/1.pb",
            "b/README.md",
            "b/.hidden.json",
            "b/deep/3.json.zst",
        ] {
            std::fs::write(root.path().join(name), "").expect("the directory is writable");
        }
        root
    }

    fn names(root: &Path, pattern: &str, format: Option<Format>) -> Result<Vec<String>> {
        let pattern = root.join(pattern).display().to_string();
        let found = expand(&[pattern], format)?;
        let prefix = format!("{}/", root.display());
        let names = found.sources.into_iter();
        Ok(names
            .map(|source| source.name.replace(&prefix, ""))
            .collect())
    }

    #[test]
    fn directories_are_read_to_the_bottom_in_order() {
        let root = tree();
        let found = names(root.path(), "b", None).expect("there are files");
        assert_eq!(found, ["b/1.pb", "b/2.jsonl.gz", "b/deep/3.json.zst"]);
    }

    #[test]
    fn a_format_takes_files_of_any_name() {
        let root = tree();
        let found = names(root.path(), "b", Some(Format::Jaeger)).expect("there are files");
        assert!(found.contains(&"b/README.md".to_string()));
        assert!(!found.contains(&"b/.hidden.json".to_string()));
    }

    #[test]
    fn patterns_are_spelled_out_and_names_go_before_them() {
        let root = tree();
        let found = names(root.path(), "**/*.json*", None).expect("there are files");
        assert!(
            found.contains(&"b/deep/3.json.zst".to_string()),
            "{found:?}"
        );
        let found = names(root.path(), "a[1].json", None).expect("the file is there");
        assert_eq!(found, ["a[1].json"]);
    }

    #[test]
    fn nothing_found_is_an_error_that_names_what_was_looked_for() {
        let root = tree();
        let error = names(root.path(), "nothing-*.json", None).expect_err("nothing matches");
        assert_eq!(error.kind(), crate::ErrorKind::NotFound);
        assert!(error.message().contains("nothing-*.json"));
    }
}
