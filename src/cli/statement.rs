//! Where one SQL statement ends and the next begins, without parsing SQL.
//!
//! Read [`split`]. A `;` counts unless it stands in quotes, a comment or a dollar-quoted text; the
//! prompt asks the same question to know whether more lines are to come. Whether a statement is
//! valid SQL is not this file's matter.

/// One statement of a script, without its semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The text from its first word to its last.
    pub(crate) text: String,
    /// The line its first word stands on, from 1.
    pub(crate) line: usize,
}

/// A script taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// The statements a semicolon ends, in order; empty ones are left out.
    pub(crate) ended: Vec<Statement>,
    /// What follows the last semicolon, if that holds more than blanks and comments.
    pub(crate) rest: Option<Statement>,
    /// Whether the text stops inside quotes or a comment.
    pub(crate) open: bool,
}

impl Script {
    /// Every statement: the last one of a file needs no semicolon.
    pub(crate) fn into_statements(self) -> Vec<Statement> {
        self.ended.into_iter().chain(self.rest).collect()
    }

    /// Whether a prompt that got this text should run it instead of asking for more.
    pub(crate) fn is_complete(&self) -> bool {
        self.rest.is_none() && !self.open
    }
}

/// Takes a script apart at its semicolons.
pub(crate) fn split(text: &str) -> Script {
    let mut script = Script::default();
    let mut start = None;
    let mut position = 0;
    while position < text.len() {
        let token = token(text, position);
        script.open = !token.closed;
        if token.kind == Kind::Semicolon {
            if let Some(start) = start.take() {
                script.ended.push(statement(text, start, position));
            }
        } else if token.kind == Kind::Content && start.is_none() {
            start = Some(position);
        }
        position = token.end;
    }
    script.rest = start.map(|start| statement(text, start, text.len()));
    script
}

fn statement(text: &str, start: usize, end: usize) -> Statement {
    Statement {
        text: text[start..end].trim_end().to_string(),
        line: text[..start].matches('\n').count() + 1,
    }
}

/// The bytes of the quoted text, comment or single character that `text`, which is not empty,
/// begins with.
pub(crate) fn token_length(text: &str) -> usize {
    token(text, 0).end
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Blanks and comments.
    Nothing,
    /// Anything that makes a statement.
    Content,
    Semicolon,
}

struct Token {
    kind: Kind,
    end: usize,
    /// False if the text ended before the closing quote or comment mark.
    closed: bool,
}

/// The token that begins at `start`, which is a character boundary before the end of `text`.
fn token(text: &str, start: usize) -> Token {
    let rest = &text[start..];
    let found = |kind, length: Option<usize>| Token {
        kind,
        end: length.map_or(text.len(), |length| start + length),
        closed: length.is_some(),
    };
    if rest.starts_with("--") {
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        return found(Kind::Nothing, Some(length));
    }
    if rest.starts_with("/*") {
        return found(Kind::Nothing, comment_length(rest));
    }
    let first = rest.chars().next().unwrap_or(' ');
    match first {
        ';' => found(Kind::Semicolon, Some(1)),
        '\'' => found(
            Kind::Content,
            quoted_length(rest, '\'', has_escape_prefix(&text[..start])),
        ),
        '"' | '`' => found(Kind::Content, quoted_length(rest, first, false)),
        '$' if !ends_in_word(&text[..start]) => match dollar_tag(rest) {
            Some(tag) => {
                let length = rest[tag.len()..]
                    .find(tag)
                    .map(|position| position + 2 * tag.len());
                found(Kind::Content, length)
            }
            None => found(Kind::Content, Some(1)),
        },
        blank if blank.is_whitespace() => found(Kind::Nothing, Some(blank.len_utf8())),
        other => found(Kind::Content, Some(other.len_utf8())),
    }
}

/// The length of the block comment `text` begins with; such comments nest.
fn comment_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut position = 0;
    while position + 1 < bytes.len() {
        match &bytes[position..position + 2] {
            b"/*" => {
                depth += 1;
                position += 2;
            }
            b"*/" => {
                depth -= 1;
                position += 2;
                if depth == 0 {
                    return Some(position);
                }
            }
            _ => position += 1,
        }
    }
    None
}

/// The length of the quoted text at the beginning of `text`; a doubled quote stands for itself.
fn quoted_length(text: &str, quote: char, backslash_escapes: bool) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((position, character)) = characters.next() {
        if character == '\\' && backslash_escapes {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(position + quote.len_utf8());
        }
    }
    None
}

/// Whether what stands before a quote makes it an `E'…'` text, in which backslashes escape.
fn has_escape_prefix(before: &str) -> bool {
    before
        .strip_suffix(['e', 'E'])
        .is_some_and(|before| !ends_in_word(before))
}

fn ends_in_word(text: &str) -> bool {
    text.chars()
        .next_back()
        .is_some_and(|last| last.is_alphanumeric() || last == '_' || last == '$')
}

/// The opening mark of a dollar-quoted text: `$$` or `$word$`. A placeholder has no second `$`.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let name = &text[1..end];
    let is_tag = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_tag.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<String> {
        split(script)
            .into_statements()
            .into_iter()
            .map(|statement| statement.text)
            .collect()
    }

    #[test]
    fn semicolons_end_statements_unless_quoted_or_commented() {
        for (script, statements) in [
            ("", vec![]),
            (" ; ;; -- nothing\n /* nor ; here */ ", vec![]),
            ("SELECT 1", vec!["SELECT 1"]),
            ("SELECT 1; SELECT 2 ;", vec!["SELECT 1", "SELECT 2"]),
            ("SELECT ';'; SELECT 2", vec!["SELECT ';'", "SELECT 2"]),
            ("SELECT 'it''s;'; x", vec!["SELECT 'it''s;'", "x"]),
            ("SELECT E'\\';'; x", vec!["SELECT E'\\';'", "x"]),
            ("SELECT '\\'; x", vec!["SELECT '\\'", "x"]),
            ("SELECT \"a;b\"; x", vec!["SELECT \"a;b\"", "x"]),
            (
                "SELECT 1 -- a ; b\n, 2; x",
                vec!["SELECT 1 -- a ; b\n, 2", "x"],
            ),
            (
                "SELECT /* a /* b; */ ; */ 1; x",
                vec!["SELECT /* a /* b; */ ; */ 1", "x"],
            ),
            ("SELECT $$a;b$$; x", vec!["SELECT $$a;b$$", "x"]),
            ("SELECT $q$a;$$;b$q$; x", vec!["SELECT $q$a;$$;b$q$", "x"]),
            ("SELECT $from, $to; x", vec!["SELECT $from, $to", "x"]),
            ("SELECT $1, '$'; x", vec!["SELECT $1, '$'", "x"]),
            ("SELECT 'größe;'; 数", vec!["SELECT 'größe;'", "数"]),
        ] {
            assert_eq!(texts(script), statements, "{script}");
        }
    }

    #[test]
    fn each_statement_knows_its_line() {
        let lines: Vec<usize> = split("-- head\nSELECT 1;\n\nSELECT\n 2;SELECT 3")
            .into_statements()
            .into_iter()
            .map(|statement| statement.line)
            .collect();
        assert_eq!(lines, [2, 4, 5]);
    }

    #[test]
    fn the_prompt_asks_for_more_until_a_statement_is_closed() {
        for (text, complete) in [
            ("", true),
            ("-- a comment", true),
            ("SELECT 1", false),
            ("SELECT 1;", true),
            ("SELECT 1; SELECT", false),
            ("SELECT ';", false),
            ("SELECT 1; /* open", false),
            ("SELECT 1; /* closed */ -- end", true),
            ("SELECT $$;", false),
        ] {
            assert_eq!(split(text).is_complete(), complete, "{text}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        for text in [
            "'",
            "\"",
            "$",
            "$$",
            "/*",
            "*/",
            "E'\\",
            "é$ü$;é$ü$",
            "/*/",
            "--",
        ] {
            split(text);
        }
    }
}
