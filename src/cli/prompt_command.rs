//! The prompt's own commands, those that begin with a backslash.
//!
//! Read [`PromptCommand`]. They are carried out in `sql.rs`.

use std::path::PathBuf;

/// What `\?` prints.
pub(crate) const HELP: &str = r"Statements end with a semicolon and may take several lines.

  \d            list tables and views
  \d NAME       list the columns of a table or view
  \df [PATTERN] list functions; * stands for any text; the manual if one matches
  \timing [on|off]    print how long each statement took
  \x [on|off|auto]    one value a line; auto: where columns do not fit the terminal
  \o [FILE]     write results to a file (its ending tells the format); without: back to here
  \i FILE       run the statements and commands of a file
  \q            leave (also: quit, exit, Ctrl-D)
  \?            this help

Ctrl-C cancels a running statement or clears the line. Tab completes.";

/// Names and arguments, for completion.
pub(crate) const NAMES: [&str; 8] = [r"\d", r"\df", r"\timing", r"\x", r"\o", r"\i", r"\q", r"\?"];

/// A setting that is on, off or, for one of them, decided for each result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// The other of on and off.
    Toggle,
    On,
    Off,
    Auto,
}

/// A command of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PromptCommand {
    ListTables,
    DescribeTable(String),
    ListFunctions(Option<String>),
    Timing(Switch),
    Expanded(Switch),
    Output(Option<PathBuf>),
    Include(PathBuf),
    Help,
    Quit,
}

impl PromptCommand {
    /// Whether a line is for the prompt and not SQL.
    pub(crate) fn is_one(line: &str) -> bool {
        let line = line.trim();
        line.starts_with('\\') || matches!(word(line), "quit" | "exit" | "help")
    }

    /// Reads a line for which [`PromptCommand::is_one`] holds.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, argument) = match line.split_once(char::is_whitespace) {
            Some((name, argument)) => (name, Some(unquoted(argument.trim()))),
            None => (line, None),
        };
        let none = |command: Self| match argument {
            None => Ok(command),
            Some(_) => Err(format!(r"{name} takes no argument")),
        };
        match name {
            r"\d" | r"\dt" | r"\d+" => Ok(match argument {
                Some(table) => Self::DescribeTable(table.to_string()),
                None => Self::ListTables,
            }),
            r"\df" => Ok(Self::ListFunctions(argument.map(str::to_string))),
            r"\timing" => match switch(argument)? {
                Switch::Auto => Err(r"\timing takes on or off".to_string()),
                switch => Ok(Self::Timing(switch)),
            },
            r"\x" => Ok(Self::Expanded(switch(argument)?)),
            r"\o" => Ok(Self::Output(argument.map(PathBuf::from))),
            r"\i" => argument
                .map(|path| Self::Include(PathBuf::from(path)))
                .ok_or_else(|| r"\i takes the name of a file".to_string()),
            r"\?" | r"\h" | r"\help" | "help" => none(Self::Help),
            r"\q" | r"\quit" | "quit" | "exit" => none(Self::Quit),
            other => Err(format!(r"there is no {other}; \? lists the commands")),
        }
    }
}

/// A line's only word, without the semicolon habit may put after it.
fn word(line: &str) -> &str {
    line.trim_end_matches(';').trim_end()
}

fn switch(argument: Option<&str>) -> Result<Switch, String> {
    match argument {
        None => Ok(Switch::Toggle),
        Some("on") => Ok(Switch::On),
        Some("off") => Ok(Switch::Off),
        Some("auto") => Ok(Switch::Auto),
        Some(other) => Err(format!("`{other}` is neither on nor off")),
    }
}

fn unquoted(argument: &str) -> &str {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| argument.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_their_arguments() {
        use PromptCommand as C;
        for (line, command) in [
            (r"\d", C::ListTables),
            (r" \d spans; ", C::DescribeTable("spans".to_string())),
            (r"\df", C::ListFunctions(None)),
            (r"\df date*", C::ListFunctions(Some("date*".to_string()))),
            (r"\timing", C::Timing(Switch::Toggle)),
            (r"\timing off", C::Timing(Switch::Off)),
            (r"\x auto", C::Expanded(Switch::Auto)),
            (r"\o 'my file.csv'", C::Output(Some("my file.csv".into()))),
            (r"\o", C::Output(None)),
            (r"\i a.sql", C::Include("a.sql".into())),
            (r"\?", C::Help),
            ("quit;", C::Quit),
            (r"\q", C::Quit),
        ] {
            assert!(C::is_one(line), "{line}");
            assert_eq!(C::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn sql_is_not_taken_for_a_command() {
        for line in ["SELECT 1;", "exit_code", "help me", "", "-- quit"] {
            assert!(!PromptCommand::is_one(line), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        for line in [r"\nonsense", r"\i", r"\timing auto", r"\x maybe", r"\q now"] {
            let message = PromptCommand::parse(line).expect_err("the line makes no sense");
            assert!(!message.is_empty());
        }
    }

    #[test]
    fn the_help_tells_of_every_command() {
        for name in NAMES {
            assert!(HELP.contains(&format!("\n  {name}")), "{name}");
        }
    }
}
