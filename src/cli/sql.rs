//! `tracelake sql`: the prompt.
//!
//! Read [`Prompt`]: it takes one complete text after the other, wherever they come from (a
//! person, a pipe, a file), and goes on after an error. How a text is typed is `editor.rs`'s
//! matter.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::SqlArgs;
use super::catalog::{self, Catalog};
use super::context::Context;
use super::editor::{Editor, Typed};
use super::execution::{self, Finished};
use super::exit::Exit;
use super::known_names::KnownNames;
use super::output::{Destination, OutputFormat, TableOptions};
use super::pager;
use super::parameter::Parameter;
use super::prompt_command::{HELP, PromptCommand, Switch};
use super::quantity::{counted, duration};
use super::query::read_file;
use super::run::{note, print, report};
use super::statement::split;
use crate::engine::Session;
use crate::{Error, ErrorKind, Result};

/// Files that include each other come to an end here.
const INCLUDE_DEPTH: usize = 16;

const PROMPT: &str = "tracelake> ";

pub(crate) fn run(context: &Context, args: &SqlArgs) -> Result<Exit> {
    let lake = context.open_lake()?;
    let session = Arc::new(context.block_on(lake.session())?);
    let mut prompt = Prompt::new(context, session, args.max_rows);
    for text in &args.command {
        if prompt.run_text(text) == Next::Leave {
            return Ok(prompt.leave());
        }
    }
    if context.terminal.stdin && context.terminal.stdout {
        note(&format!(
            "tracelake {}, lake {}. \\? lists the commands, Ctrl-D leaves.",
            env!("CARGO_PKG_VERSION"),
            lake.url()
        ));
        prompt.converse()
    } else {
        prompt.run_lines(std::io::stdin().lock(), 0)?;
        Ok(prompt.leave())
    }
}

/// What to do after a text was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Ask,
    Leave,
}

/// When each value has a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expanded {
    Off,
    On,
    Auto,
}

/// Where results go instead of the terminal.
struct OutputFile {
    destination: Destination,
    format: OutputFormat,
    path: PathBuf,
    result_count: usize,
}

/// The state of a prompt.
pub(crate) struct Prompt<'a> {
    context: &'a Context,
    session: Arc<Session>,
    max_rows: Option<usize>,
    timing: bool,
    expanded: Expanded,
    output: Option<OutputFile>,
    /// How the last failure would end the process, if nobody was there to see it.
    failed: Option<Exit>,
}

impl<'a> Prompt<'a> {
    /// A prompt with the settings a session begins with.
    pub(crate) fn new(context: &'a Context, session: Arc<Session>, max_rows: usize) -> Self {
        Self {
            context,
            session,
            max_rows: (max_rows > 0).then_some(max_rows),
            timing: false,
            expanded: Expanded::Off,
            output: None,
            failed: None,
        }
    }

    /// Asks a person for texts until they leave.
    pub(crate) fn converse(mut self) -> Result<Exit> {
        let color = self.context.terminal.colors_stdout();
        let names = KnownNames::new(Arc::clone(&self.session), self.context.handle());
        let mut editor = Editor::try_new(self.catalog(), names, color)?;
        loop {
            match editor.read(PROMPT)? {
                Typed::Left => break,
                Typed::Cleared => {}
                Typed::Text(text) => {
                    if self.run_text(&text) == Next::Leave {
                        break;
                    }
                    if defines_names(&text) {
                        editor.set_catalog(self.catalog());
                    }
                }
            }
        }
        self.leave();
        Ok(Exit::Success)
    }

    /// Closes the output file, and says how a session without a person ends.
    fn leave(&mut self) -> Exit {
        if let Err(error) = self.close_output() {
            self.fail(&error);
        }
        self.failed.unwrap_or(Exit::Success)
    }

    /// What Tab offers; nothing if the session cannot tell.
    fn catalog(&self) -> Catalog {
        let load = Catalog::load(&self.session);
        self.context.block_on(load).unwrap_or_else(|error| {
            tracing::warn!("no names to complete: {}", error.report());
            Catalog::default()
        })
    }

    /// Runs lines as if typed; a last statement needs no semicolon.
    fn run_lines(&mut self, lines: impl BufRead, depth: usize) -> Result<Next> {
        let mut pending = String::new();
        for line in lines.lines() {
            let line = line.map_err(|error| {
                Error::invalid_input("cannot read the statements").with_source(error)
            })?;
            if pending.trim().is_empty() && PromptCommand::is_one(&line) {
                if self.run_command(&line, depth) == Next::Leave {
                    return Ok(Next::Leave);
                }
                continue;
            }
            pending.push_str(&line);
            pending.push('\n');
            if split(&pending).is_complete() {
                self.run_statements(&std::mem::take(&mut pending));
            }
        }
        self.run_statements(&pending);
        Ok(Next::Ask)
    }

    fn run_text(&mut self, text: &str) -> Next {
        if PromptCommand::is_one(text) {
            return self.run_command(text, 0);
        }
        self.run_statements(text);
        Next::Ask
    }

    /// Runs statements until one fails or is cancelled.
    fn run_statements(&mut self, text: &str) {
        for statement in split(text).into_statements() {
            match self.show(&statement.text, &[], self.expanded) {
                Ok(finished) if finished.interrupted => {
                    note("cancelled");
                    self.failed = Some(Exit::Interrupted);
                    return;
                }
                Ok(finished) => {
                    if self.timing {
                        note(&format!("Time: {}", duration(finished.elapsed)));
                    }
                }
                Err(error) => {
                    self.fail(&error);
                    return;
                }
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        report(error, self.context.terminal);
        self.failed = Some(Exit::Failure(error.kind()));
    }

    /// Runs one statement and shows or writes its result.
    fn show(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
        expanded: Expanded,
    ) -> Result<Finished> {
        match self.output.take() {
            Some(output) => self.write_to_file(sql, parameters, output),
            None => self.show_here(sql, parameters, expanded),
        }
    }

    /// Shows what the prompt asked for itself: a list, which stays one in the expanded view.
    fn show_list(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Finished> {
        self.show(sql, parameters, Expanded::Off)
    }

    fn show_here(
        &self,
        sql: &str,
        parameters: &[Parameter],
        expanded: Expanded,
    ) -> Result<Finished> {
        let terminal = self.context.terminal;
        let mut table = TableOptions {
            width: terminal.width(),
            max_rows: self.max_rows,
            expanded: expanded == Expanded::On,
            color: terminal.colors_stdout(),
        };
        let auto = expanded == Expanded::Auto;
        let mut out = Vec::new();
        let finished =
            self.context
                .block_on(execution::run(&self.session, sql, parameters, |schema| {
                    // Each column takes its name or a few letters, and what stands between.
                    table.expanded |= auto
                        && table
                            .width
                            .is_some_and(|width| schema.fields().len() * 15 > width);
                    OutputFormat::Table.writer(schema, &mut out, false, &table)
                }))?;
        if !finished.has_rows && !finished.interrupted {
            note("done");
        }
        match pager::show(&out, terminal) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(finished),
            other => {
                other?;
                Ok(finished)
            }
        }
    }

    fn write_to_file(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
        mut output: OutputFile,
    ) -> Result<Finished> {
        let table = TableOptions {
            expanded: self.expanded == Expanded::On,
            ..TableOptions::default()
        };
        let to_file = output.destination.is_file();
        let (format, destination) = (output.format, &mut output.destination);
        let run = execution::run(&self.session, sql, parameters, |schema| {
            format.writer(schema, destination, to_file, &table)
        });
        // After an error or a cancelled statement the file ends in the middle of a result, so it
        // is given up, and never appears.
        let result = self.context.block_on(run);
        let whole = matches!(&result, Ok(finished) if !finished.interrupted);
        if !whole {
            note(&format!("`{}` was given up", output.path.display()));
            return result;
        }
        let finished = result?;
        output.result_count += usize::from(finished.has_rows);
        let is_full = output.format.holds_one_result() && output.result_count > 0;
        self.output = Some(output);
        if is_full {
            self.close_output()?;
        }
        Ok(finished)
    }

    fn close_output(&mut self) -> Result<()> {
        let Some(output) = self.output.take() else {
            return Ok(());
        };
        output.destination.commit()?;
        let results = counted(output.result_count as u64, "result");
        note(&format!("wrote {results} to {}", output.path.display()));
        Ok(())
    }

    fn run_command(&mut self, line: &str, depth: usize) -> Next {
        let result = match PromptCommand::parse(line) {
            Ok(PromptCommand::Quit) => return Next::Leave,
            Ok(PromptCommand::Include(path)) => match self.include(&path, depth) {
                Ok(Next::Leave) => return Next::Leave,
                Ok(Next::Ask) => Ok(()),
                Err(error) => Err(error),
            },
            Ok(command) => self.carry_out(command),
            Err(message) => Err(Error::invalid_input(message)),
        };
        if let Err(error) = result {
            self.fail(&error);
        }
        Next::Ask
    }

    fn carry_out(&mut self, command: PromptCommand) -> Result<()> {
        match command {
            PromptCommand::ListTables => self.show_list(catalog::TABLES, &[]).map(drop),
            PromptCommand::DescribeTable(table) => {
                let finished =
                    self.show_list(catalog::COLUMNS, &catalog::table_parameters(&table))?;
                if finished.row_count == 0 && !finished.interrupted {
                    return Err(Error::not_found(format!(
                        "there is no table `{table}`; \\d lists the tables"
                    )));
                }
                Ok(())
            }
            PromptCommand::ListFunctions(pattern) => self.list_functions(pattern.as_deref()),
            PromptCommand::Timing(switch) => {
                self.timing = match switch {
                    Switch::Toggle => !self.timing,
                    other => other == Switch::On,
                };
                note(&format!("timing is {}", on_or_off(self.timing)));
                Ok(())
            }
            PromptCommand::Expanded(switch) => {
                self.expanded = match switch {
                    Switch::Toggle if self.expanded == Expanded::Off => Expanded::On,
                    Switch::Toggle | Switch::Off => Expanded::Off,
                    Switch::On => Expanded::On,
                    Switch::Auto => Expanded::Auto,
                };
                let state = match self.expanded {
                    Expanded::Auto => "used where columns do not fit",
                    other => on_or_off(other == Expanded::On),
                };
                note(&format!("the expanded view is {state}"));
                Ok(())
            }
            PromptCommand::Output(path) => self.redirect(path),
            PromptCommand::Help => print(HELP),
            // Taken care of by who calls.
            PromptCommand::Include(_) | PromptCommand::Quit => Ok(()),
        }
    }

    fn list_functions(&mut self, pattern: Option<&str>) -> Result<()> {
        if let Some(pattern) = pattern {
            let manual = catalog::manual(&self.session, pattern);
            if let Some(manual) = self.context.block_on(manual)? {
                return print(&manual);
            }
        }
        let parameters = catalog::function_parameters(pattern);
        self.show_list(catalog::FUNCTIONS, &parameters).map(drop)
    }

    fn redirect(&mut self, path: Option<PathBuf>) -> Result<()> {
        self.close_output()?;
        let Some(path) = path else {
            return Ok(());
        };
        let format = OutputFormat::of_path(&path).unwrap_or(OutputFormat::Table);
        self.output = Some(OutputFile {
            destination: Destination::file(&path)?,
            format,
            path,
            result_count: 0,
        });
        Ok(())
    }

    fn include(&mut self, path: &Path, depth: usize) -> Result<Next> {
        if depth >= INCLUDE_DEPTH {
            return Err(Error::new(
                ErrorKind::ResourcesExhausted,
                format!(
                    "files include each other more than {INCLUDE_DEPTH} deep, at `{}`",
                    path.display()
                ),
            ));
        }
        let text = read_file(path)?;
        self.run_lines(text.as_bytes(), depth + 1)
    }
}

/// Whether a text may have changed what Tab should offer.
fn defines_names(text: &str) -> bool {
    split(text).into_statements().iter().any(|statement| {
        let first = statement.text.split_whitespace().next().unwrap_or("");
        ["CREATE", "DROP", "ALTER"]
            .iter()
            .any(|word| first.eq_ignore_ascii_case(word))
    })
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
