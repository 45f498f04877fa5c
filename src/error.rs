//! What can go wrong, named by what the caller does next.
//!
//! Read [`ErrorKind`] first: servers and the command line map it, and nothing else, to an exit
//! code or a status. This file does not decide how an error is printed.

use std::fmt;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request, option, SQL or data is wrong: mend it.
    InvalidInput,
    /// What was named does not exist.
    NotFound,
    /// Legal, but tracelake cannot do it.
    Unsupported,
    /// A store or peer did not answer: try again later.
    Unavailable,
    /// Stored data is damaged: restore it.
    Corrupt,
    /// A limit was reached: ask for less, or raise the limit.
    ResourcesExhausted,
    /// A defect of tracelake: report it.
    Internal,
}

/// An error: its kind, a message that says what was wrong and what to do, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The request or the data is wrong.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// What was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Stored data is damaged.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A defect of tracelake.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with what was being done before its message.
    #[must_use]
    pub fn with_context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message alone, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The message and every cause that adds something, as one line.
    pub fn report(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::InvalidData
            | std::io::ErrorKind::InvalidInput
            | std::io::ErrorKind::UnexpectedEof => ErrorKind::InvalidInput,
            std::io::ErrorKind::OutOfMemory => ErrorKind::ResourcesExhausted,
            _ if is_full(&error) => ErrorKind::ResourcesExhausted,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        let kind = match &error {
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            object_store::Error::InvalidPath { .. }
            | object_store::Error::UnknownConfigurationKey { .. } => ErrorKind::InvalidInput,
            object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented { .. } => ErrorKind::Unsupported,
            other if has_full_disk_below(other) => ErrorKind::ResourcesExhausted,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}

/// Whether a disk, a quota or the size of a file has come to its end: waiting does not help.
fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge
    )
}

/// Whether a cause of an error is a full disk.
fn has_full_disk_below(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(is_full) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::internal(error.to_string()).with_source(error)
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        match error {
            parquet::errors::ParquetError::External(inner)
                if inner.downcast_ref::<object_store::Error>().is_some() =>
            {
                match inner.downcast::<object_store::Error>() {
                    Ok(inner) => Self::from(*inner),
                    Err(inner) => Self::internal(inner.to_string()),
                }
            }
            other => Self::corrupt(other.to_string()).with_source(other),
        }
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as Df;
        match error {
            Df::External(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                Err(inner) => Self::internal(inner.to_string()).with_source(inner),
            },
            Df::ObjectStore(inner) => Self::from(*inner),
            Df::ParquetError(inner) => Self::from(*inner),
            Df::IoError(inner) => Self::from(inner),
            // Wrappers name the optimizer's rule or the operator; the root says what is wrong.
            Df::Context(_, _) | Df::Diagnostic(_, _) | Df::Shared(_) | Df::Collection(_) => {
                let message = match error.find_root() {
                    Df::External(inner) => match inner.downcast_ref::<Self>() {
                        Some(own) => own.report(),
                        None => inner.to_string(),
                    },
                    Df::ResourcesExhausted(what) => format!("{what}; {LESS_MEMORY}"),
                    root => root.strip_backtrace(),
                };
                Self::new(kind_of(&error), message)
            }
            Df::ResourcesExhausted(what) => Self::new(
                ErrorKind::ResourcesExhausted,
                format!("{what}; {LESS_MEMORY}"),
            ),
            other => Self::new(kind_of(&other), other.strip_backtrace()),
        }
    }
}

/// What to do where memory is exhausted.
const LESS_MEMORY: &str = "raise the memory limit, or ask for less at once";

/// The kind of the innermost cause of a DataFusion error.
fn kind_of(error: &datafusion::error::DataFusionError) -> ErrorKind {
    use datafusion::error::DataFusionError as Df;
    match error.find_root() {
        Df::SQL(..) | Df::Plan(_) | Df::SchemaError(..) | Df::Configuration(_) => {
            ErrorKind::InvalidInput
        }
        Df::ArrowError(error, _)
            if matches!(**error, arrow::error::ArrowError::ParquetError(_)) =>
        {
            ErrorKind::Corrupt
        }
        // What fails while rows are computed (a cast, a division by zero) is the query's fault.
        Df::Execution(_) | Df::ArrowError(..) => ErrorKind::InvalidInput,
        Df::NotImplemented(_) => ErrorKind::Unsupported,
        Df::ResourcesExhausted(_) => ErrorKind::ResourcesExhausted,
        Df::ObjectStore(_) | Df::IoError(_) => ErrorKind::Unavailable,
        Df::ParquetError(_) => ErrorKind::Corrupt,
        Df::External(inner) => inner
            .downcast_ref::<Error>()
            .map_or(ErrorKind::Internal, Error::kind),
        _ => ErrorKind::Internal,
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}
