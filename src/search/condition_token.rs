//! The words and signs of a condition's text.
//!
//! Read [`Token`].

use crate::error::{Error, Result};

/// One word or sign, and the character at which it begins, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) position: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// A key, a keyword or a number, as written.
    Word(String),
    /// A text in single or double quotes, without them.
    Quoted(String),
    /// An operator, a parenthesis, a comma or a colon.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// Signs; longer ones before those they start with.
const SIGNS: [&str; 14] = [
    "==", "!=", "<>", "<=", ">=", "=~", "^=", "=", "<", ">", "(", ")", ",", ":",
];

impl TokenKind {
    /// How an error names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{}`", shortened(word)),
            Self::Quoted(text) => format!("the text `{}`", shortened(text)),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_string(),
        }
    }

    /// Whether it is this keyword, in any case.
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// The beginning of a text that may be long.
fn shortened(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() {
        format!("{start}…")
    } else {
        start
    }
}

/// Whether a key may have this character without being quoted.
pub(super) fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '/' | '@' | '$' | '*')
}

/// The error that something is wrong at a position.
pub(super) fn error_at(position: usize, what: &str) -> Error {
    Error::invalid_input(format!("{what}; in the condition at position=`{position}`"))
}

/// The tokens of a text; the last one is its end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut position = 1;
    loop {
        let trimmed = rest.trim_start();
        position += rest[..rest.len() - trimmed.len()].chars().count();
        rest = trimmed;
        let (kind, length) = token(rest, position)?;
        let is_end = kind == TokenKind::End;
        tokens.push(Token { kind, position });
        if is_end {
            return Ok(tokens);
        }
        position += rest[..length].chars().count();
        rest = &rest[length..];
    }
}

/// The first token of a text and its bytes.
fn token(text: &str, position: usize) -> Result<(TokenKind, usize)> {
    let Some(first) = text.chars().next() else {
        return Ok((TokenKind::End, 0));
    };
    if first == '\'' || first == '"' {
        return quoted(text, first, position);
    }
    if let Some(sign) = SIGNS.iter().find(|sign| text.starts_with(**sign)) {
        return Ok((TokenKind::Sign(sign), sign.len()));
    }
    let end = text.find(|c| !is_word_char(c)).unwrap_or(text.len());
    if end == 0 {
        let what = format!(
            "`{}` has no meaning here; put keys that hold it in quotes",
            first.escape_debug()
        );
        return Err(error_at(position, &what));
    }
    Ok((TokenKind::Word(text[..end].to_string()), end))
}

/// A text in quotes; the quote itself is written twice.
fn quoted(text: &str, quote: char, position: usize) -> Result<(TokenKind, usize)> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((index, c)) = chars.next() {
        if c != quote {
            content.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            content.push(quote);
            chars.next();
        } else {
            return Ok((TokenKind::Quoted(content), index + 1));
        }
    }
    Err(error_at(position, "a text lacks its closing quote"))
}
