//! How a command ends, as the number a shell sees.
//!
//! Read [`Exit`]. What is printed before is `run.rs`'s matter.

use std::process::ExitCode;

use crate::ErrorKind;

/// The part of `--help` that lists the exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done (also when the reader of a pipe went away)
  1    failed: stored data is damaged, or tracelake has a defect
  2    wrong options, SQL or input, or something tracelake cannot do: mend the request
  3    what was named does not exist: a lake, a file
  4    a store did not answer: try again later
  5    a limit was reached: memory, disk
  130  interrupted";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked.
    Success,
    /// It failed, and said so.
    Failure(ErrorKind),
    /// Ctrl-C stopped it.
    Interrupted,
}

impl Exit {
    /// The number for the shell, as [`EXIT_CODES`] lists them.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure(ErrorKind::Corrupt | ErrorKind::Internal) => 1,
            Self::Failure(ErrorKind::InvalidInput | ErrorKind::Unsupported) => 2,
            Self::Failure(ErrorKind::NotFound) => 3,
            Self::Failure(ErrorKind::Unavailable) => 4,
            Self::Failure(ErrorKind::ResourcesExhausted) => 5,
            // 128 and the number of the signal, as shells count.
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_in_the_help() {
        for kind in [
            ErrorKind::InvalidInput,
            ErrorKind::NotFound,
            ErrorKind::Unsupported,
            ErrorKind::Unavailable,
            ErrorKind::Corrupt,
            ErrorKind::ResourcesExhausted,
            ErrorKind::Internal,
        ] {
            let code = Exit::Failure(kind).code();
            assert_ne!(code, 0, "{kind:?}");
            assert!(EXIT_CODES.contains(&format!("\n  {code} ")), "{kind:?}");
        }
        assert_eq!(Exit::Success.code(), 0);
        assert_eq!(Exit::Interrupted.code(), 130);
    }
}
