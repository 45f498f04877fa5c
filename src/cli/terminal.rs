//! What the three standard streams are: terminals or not, how wide, with colour or without.
//!
//! Read [`Terminal`]. Nothing else in the command line asks the environment about this.

use std::io::IsTerminal;

/// The size taken where a terminal does not tell its own.
const FALLBACK: (usize, usize) = (80, 24);

/// The standard streams of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Whether a person types the input.
    pub(crate) stdin: bool,
    /// Whether a person reads the results.
    pub(crate) stdout: bool,
    /// Whether a person reads notes and progress.
    pub(crate) stderr: bool,
    /// Whether colour is wanted at all, as <https://no-color.org> has it.
    color: bool,
}

impl Terminal {
    /// The streams as they are now.
    pub(crate) fn detect() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            stdin: std::io::stdin().is_terminal(),
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
            color: !set("NO_COLOR") && !dumb,
        }
    }

    /// Whether results are coloured.
    pub(crate) fn colors_stdout(&self) -> bool {
        self.stdout && self.color
    }

    /// Whether notes and errors are coloured.
    pub(crate) fn colors_stderr(&self) -> bool {
        self.stderr && self.color
    }

    /// The columns results should fit; `None` where nobody looks at them directly.
    pub(crate) fn width(&self) -> Option<usize> {
        self.stdout.then(|| size().0)
    }

    /// The lines a screen holds; `None` where nobody looks.
    pub(crate) fn height(&self) -> Option<usize> {
        self.stdout.then(|| size().1)
    }
}

fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(FALLBACK, |(width, height)| {
        (usize::from(width.0), usize::from(height.0))
    })
}

/// Colours and weights, as terminals understand them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// Column names, titles.
    Bold,
    /// What matters less: NULL, rulers.
    Dim,
    /// Errors.
    Red,
    /// Keywords.
    Blue,
    /// Texts in quotes.
    Green,
    /// Numbers.
    Yellow,
}

impl Style {
    /// `text` in this style if `on`, else as it is.
    pub(crate) fn paint(self, text: &str, on: bool) -> String {
        if !on || text.is_empty() {
            return text.to_string();
        }
        let code = match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "1;31",
            Self::Blue => "34",
            Self::Green => "32",
            Self::Yellow => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_leaves_text_alone_when_off() {
        assert_eq!(Style::Red.paint("x", false), "x");
        assert_eq!(Style::Red.paint("x", true), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Style::Red.paint("", true), "");
    }
}
