//! The line editor of the prompt: when a text is complete, what Tab offers, how SQL is coloured,
//! where history is kept.
//!
//! Read [`Editor`]. What is done with the text is `sql.rs`'s matter.

use std::borrow::Cow;
use std::path::PathBuf;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Helper};

use super::catalog::Catalog;
use super::completion::{self, Completion, KEYWORDS};
use super::known_names::KnownNames;
use super::prompt_command::PromptCommand;
use super::statement;
use super::terminal::Style;
use super::wanted_names::{Wanted, wanted};
use crate::{Error, Result};

const HISTORY_ENTRIES: usize = 10_000;

/// What a person did at the prompt.
pub(crate) enum Typed {
    /// A complete text: statements, or a command of the prompt.
    Text(String),
    /// Ctrl-C: what was typed is forgotten.
    Cleared,
    /// Ctrl-D.
    Left,
}

/// The line editor.
pub(crate) struct Editor {
    editor: rustyline::Editor<PromptAssistant, DefaultHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor with the history of earlier sessions.
    pub(crate) fn try_new(catalog: Catalog, names: KnownNames, color: bool) -> Result<Self> {
        let unusable =
            |error| Error::internal("the terminal cannot be used for a prompt").with_source(error);
        let config = Config::builder()
            .max_history_size(HISTORY_ENTRIES)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(unusable)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = rustyline::Editor::with_config(config).map_err(unusable)?;
        editor.set_helper(Some(PromptAssistant {
            catalog,
            names,
            files: FilenameCompleter::new(),
            color,
        }));
        let history = history_path();
        if let Some(path) = &history {
            // The first session has none.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// Offers other names from now on.
    pub(crate) fn set_catalog(&mut self, catalog: Catalog) {
        if let Some(helper) = self.editor.helper_mut() {
            helper.catalog = catalog;
        }
    }

    /// Asks for the next text.
    pub(crate) fn read(&mut self, prompt: &str) -> Result<Typed> {
        match self.editor.readline(prompt) {
            Ok(text) => {
                // A history that cannot be kept is no reason to refuse the statement.
                let _ = self.editor.add_history_entry(text.trim_end());
                if let Some(path) = &self.history {
                    let _ = self.editor.append_history(path);
                }
                Ok(Typed::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Cleared),
            Err(ReadlineError::Eof) => Ok(Typed::Left),
            Err(ReadlineError::Io(error)) => Err(error.into()),
            Err(error) => Err(Error::internal("the prompt failed").with_source(error)),
        }
    }
}

/// `$TRACELAKE_HISTORY`, else `tracelake/history` in the directory for state, as the XDG base
/// directory specification names it. The directory is made; without a home there is no history.
fn history_path() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("TRACELAKE_HISTORY") {
        return Some(PathBuf::from(path));
    }
    let state = match variable("XDG_STATE_HOME") {
        Some(state) => PathBuf::from(state),
        None => PathBuf::from(variable("HOME").or_else(|| variable("USERPROFILE"))?)
            .join(".local")
            .join("state"),
    };
    let directory = state.join("tracelake");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}

struct PromptAssistant {
    catalog: Catalog,
    names: KnownNames,
    files: FilenameCompleter,
    color: bool,
}

impl PromptAssistant {
    /// Names as they stand between quotes, and not those that would garble the line.
    fn words_in_quotes(&self, wanted: &Wanted, typed: &str) -> Vec<String> {
        let names = self.names.names(wanted, &typed.replace("''", "'"));
        let names = names.into_iter();
        names
            .filter(|name| !name.chars().any(char::is_control))
            .map(|name| name.replace('\'', "''"))
            .collect()
    }
}

impl Helper for PromptAssistant {}

impl Hinter for PromptAssistant {
    type Hint = String;
}

impl Validator for PromptAssistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        Ok(
            if PromptCommand::is_one(text) || statement::split(text).is_complete() {
                ValidationResult::Valid(None)
            } else {
                ValidationResult::Incomplete
            },
        )
    }
}

impl Completer for PromptAssistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        if [r"\i ", r"\o "].iter().any(|name| line.starts_with(name)) {
            return self.files.complete_path(line, cursor);
        }
        let before = line.get(..cursor).unwrap_or(line);
        let completion = match wanted(before) {
            Some((wanted, start)) => Completion {
                start,
                words: self.words_in_quotes(&wanted, &before[start..]),
            },
            None => completion::complete(line, cursor, &self.catalog),
        };
        let pair = |word: String| Pair {
            display: word.clone(),
            replacement: word,
        };
        Ok((
            completion.start,
            completion.words.into_iter().map(pair).collect(),
        ))
    }
}

impl Highlighter for PromptAssistant {
    fn highlight<'l>(&self, line: &'l str, _cursor: usize) -> Cow<'l, str> {
        if !self.color || PromptCommand::is_one(line) {
            return Cow::Borrowed(line);
        }
        Cow::Owned(highlighted(line))
    }

    fn highlight_char(&self, _line: &str, _cursor: usize, kind: CmdKind) -> bool {
        self.color && kind != CmdKind::MoveCursor
    }
}

/// `text` with its keywords, texts, numbers and comments coloured; without the colours it is the
/// same text.
fn highlighted(text: &str) -> String {
    let mut colored = String::with_capacity(2 * text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word_end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let (length, style) = if word_end > 0 {
            (word_end, word_style(&rest[..word_end]))
        } else {
            let length = statement::token_length(rest);
            let style = if rest.starts_with("--") || rest.starts_with("/*") {
                Some(Style::Dim)
            } else if rest.starts_with('\'') {
                Some(Style::Green)
            } else {
                None
            };
            (length, style)
        };
        let (token, after) = rest.split_at(length);
        match style {
            Some(style) => colored.push_str(&style.paint(token, true)),
            None => colored.push_str(token),
        }
        rest = after;
    }
    colored
}

fn word_style(word: &str) -> Option<Style> {
    if KEYWORDS
        .binary_search(&word.to_ascii_uppercase().as_str())
        .is_ok()
    {
        Some(Style::Blue)
    } else if word.starts_with(|c: char| c.is_ascii_digit()) {
        Some(Style::Yellow)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_leave_the_text_as_it_is() {
        for text in [
            "SELECT 'a''b', 12 FROM spans -- note\n WHERE x = $q$y$q$;",
            "sélect /* open",
            "'open",
            "",
        ] {
            let mut plain = String::new();
            let mut rest = highlighted(text);
            while let Some(escape) = rest.find('\x1b') {
                plain.push_str(&rest[..escape]);
                let end = rest[escape..].find('m').expect("an escape sequence ends");
                rest = rest[escape + end + 1..].to_string();
            }
            plain.push_str(&rest);
            assert_eq!(plain, text);
        }
        assert!(highlighted("select").starts_with("\x1b[34m"));
    }
}
