//! `tracelake serve`: takes spans in and answers queries until it is told to end.

use std::future::Future;

use super::args::ServeArgs;
use super::context::Context;
use super::exit::Exit;
use super::run::note;
use crate::engine::Lake;
use crate::server::{ServeOptions, Server};
use crate::{Error, Result};

pub(crate) fn run(context: &Context, args: &ServeArgs) -> Result<Exit> {
    let text = match &args.config {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Error::from(error).with_context(format!("cannot read {}", path.display()))
        })?,
        None => String::new(),
    };
    let options = ServeOptions::parse(&text, std::env::vars(), &args.set)?;
    if args.check {
        options.check()?;
        note("the configuration is fine");
        return Ok(Exit::Success);
    }
    free_memory_soon();
    let mut config = context.config.clone();
    options.apply(&mut config);
    context.block_on(async {
        let ended = end_signal()?;
        let lake = Lake::create(&context.lake_url, config).await?;
        let server = Server::start(&lake, &options).await?;
        for (what, address) in server.addresses().listed() {
            note(&format!("{what} at {address}"));
        }
        note(&format!("ready; the lake is {}", lake.url()));
        server.run_until(ended).await?;
        Ok(Exit::Success)
    })
}

/// Starts the program anew, in the same process, with an allocator that gives memory back to the
/// system at once: by itself it keeps for seconds what it may need again, and under many small
/// commits that is most of what a server would take. It reads this option only once, before
/// anything else runs.
fn free_memory_soon() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        const OPTION: &str = "MIMALLOC_PURGE_DELAY";
        const MILLISECONDS: &str = "0";
        if std::env::var_os(OPTION).is_some() {
            return;
        }
        let Ok(program) = std::env::current_exe() else {
            return;
        };
        let arguments = std::env::args_os().skip(1);
        let mut again = std::process::Command::new(program);
        let error = again.args(arguments).env(OPTION, MILLISECONDS).exec();
        tracing::debug!(%error, "memory is given back later");
    }
}

/// Ends when the process is asked to: by Ctrl-C, or by who runs it.
fn end_signal() -> Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        // A signal that cannot be waited for never comes.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
