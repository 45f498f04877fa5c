//! The `tracelake` command. Everything it does is in [`tracelake::cli`].

use std::process::ExitCode;

/// Queries allocate from many threads at once, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracelake::cli::main()
}
