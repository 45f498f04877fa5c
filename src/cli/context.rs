//! What every command works with: the runtime, the lake's address, the options, the terminal.
//!
//! Read [`Context`]. It opens lakes, and does nothing with them.

use std::future::Future;

use super::args::GlobalArgs;
use super::terminal::Terminal;
use crate::config::blocking_threads;
use crate::engine::Lake;
use crate::{Config, Error, Result};

/// What every command works with.
pub(crate) struct Context {
    runtime: tokio::runtime::Runtime,
    /// The lake's address, as given.
    pub(crate) lake_url: String,
    /// The options; a command may change its own before it opens the lake.
    pub(crate) config: Config,
    /// The standard streams.
    pub(crate) terminal: Terminal,
}

impl Context {
    /// The context the global options ask for.
    pub(crate) fn try_new(args: &GlobalArgs, terminal: Terminal) -> Result<Self> {
        let config = args.config();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .enable_all()
            .thread_name("tracelake")
            .max_blocking_threads(blocking_threads());
        if let Some(threads) = config.query.threads {
            builder.worker_threads(threads);
        }
        let runtime = builder
            .build()
            .map_err(|error| Error::internal("cannot start threads").with_source(error))?;
        Ok(Self {
            runtime,
            lake_url: args.lake.clone(),
            config,
            terminal,
        })
    }

    /// Runs a future on this thread, what it spawns on others.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// What spawns and waits as [`block_on`](Self::block_on) does.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// The lake, which must exist.
    pub(crate) fn open_lake(&self) -> Result<Lake> {
        self.open(&self.lake_url)
    }

    /// The lake at `url`, which must exist.
    pub(crate) fn open(&self, url: &str) -> Result<Lake> {
        self.block_on(Lake::open(url, self.config.clone()))
    }

    /// The lake at `url`, made if it does not exist.
    pub(crate) fn create(&self, url: &str, config: Config) -> Result<Lake> {
        self.block_on(Lake::create(url, config))
    }

    /// Lets work that was given up end by itself: the process does not wait for it.
    pub(crate) fn shut_down(self) {
        self.runtime.shutdown_background();
    }
}
