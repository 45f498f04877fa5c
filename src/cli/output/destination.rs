//! Where results go: standard output, or a file that appears whole or not at all.
//!
//! Read [`Destination`]. What is written is the formats' matter.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

const BUFFER_BYTES: usize = 1 << 16;

/// Where results go.
pub(crate) struct Destination {
    out: BufWriter<Target>,
    /// Whether the reader of a pipe went away, which is no fault.
    broken: bool,
}

enum Target {
    Stdout(io::Stdout),
    /// A pipe or device with a name, written as it is.
    Device(File),
    /// A file under a name of its own until it is whole.
    File {
        temporary: NamedTempFile,
        path: PathBuf,
    },
}

impl Destination {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Self::new(Target::Stdout(io::stdout()))
    }

    /// A file at `path`, visible once [`Destination::commit`] succeeds. What was there before
    /// stays until then.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        // A link is followed: its target is what is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if let Ok(metadata) = path.metadata() {
            if metadata.is_dir() {
                return Err(Error::invalid_input(format!(
                    "`{}` is a directory; name a file",
                    path.display()
                )));
            }
            if !metadata.is_file() {
                let device = File::options().write(true).open(&path);
                return Ok(Self::new(Target::Device(
                    device.map_err(|error| cannot_write(&path, error))?,
                )));
            }
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tracelake-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any file a program makes: the umask takes its share.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder
            .tempfile_in(directory)
            .map_err(|error| cannot_write(&path, error))?;
        Ok(Self::new(Target::File { temporary, path }))
    }

    fn new(target: Target) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, target),
            broken: false,
        }
    }

    /// Whether this is a file, not a stream somebody reads along.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.out.get_ref(), Target::File { .. })
    }

    /// Whether the reader of a pipe went away: the command then ends quietly.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Makes what was written visible, for good.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.flush()?;
        let target = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        if let Target::File { temporary, path } = target {
            temporary
                .as_file()
                .sync_all()
                .map_err(|error| cannot_write(&path, error))?;
            temporary
                .persist(&path)
                .map_err(|error| cannot_write(&path, error.error))?;
        }
        Ok(())
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::BrokenPipe
        {
            self.broken = true;
        }
        result
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.note(result)
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::Device(file) => file.write(bytes),
            Self::File { temporary, .. } => temporary.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::Device(file) => file.flush(),
            Self::File { temporary, .. } => temporary.flush(),
        }
    }
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    let kind = Error::from(io::Error::from(error.kind())).kind();
    Error::new(kind, format!("cannot write `{}`", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path().join("result.csv");
        std::fs::write(&path, "old").expect("the directory is writable");

        let mut abandoned = Destination::file(&path).expect("the directory is writable");
        abandoned.write_all(b"half").expect("the file is writable");
        drop(abandoned);
        assert_eq!(std::fs::read(&path).expect("the file is there"), b"old");

        let mut whole = Destination::file(&path).expect("the directory is writable");
        whole.write_all(b"new").expect("the file is writable");
        whole.commit().expect("the file can be renamed");
        assert_eq!(std::fs::read(&path).expect("the file is there"), b"new");
        let left = directory.path().read_dir().expect("it is a directory");
        assert_eq!(left.count(), 1);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Destination::file(Path::new("/no/such/place/x.csv"))
            .err()
            .expect("there is no such place");
        assert!(error.message().contains("/no/such/place/x.csv"));
        assert_eq!(error.kind(), crate::ErrorKind::NotFound);
    }
}
