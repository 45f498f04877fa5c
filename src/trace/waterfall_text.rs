//! Texts of spans as a terminal may show them.
//!
//! Read [`escape_text`].

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub(super) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

pub(super) fn display_name(name: &str, absent: &str) -> String {
    if name.trim().is_empty() {
        absent.to_string()
    } else {
        escape_text(name)
    }
}

/// Text from a span as it may be shown on a terminal: control characters, line separators and
/// those that turn the direction of writing are written as `\n`, `\t` or `\u{1b}`, so that no
/// name can move the cursor or forge a line.
pub fn escape_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => escaped.extend(character.escape_default()),
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{061c}'
            | '\u{feff}' => escaped.extend(character.escape_unicode()),
            _ if character.is_control() => escaped.extend(character.escape_unicode()),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// The text cut to `width` columns, with `…` where something was cut. Characters that take no
/// column count as well, four for one, lest a name be a megabyte of accents.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width && text.chars().count() <= width * 4 {
        return text.to_string();
    }
    let Some(room) = width.checked_sub(1) else {
        return String::new();
    };
    let mut cut = String::new();
    let mut taken = 0;
    for (index, character) in text.chars().enumerate() {
        taken += character.width().unwrap_or(0);
        if taken > room || index >= room * 4 {
            break;
        }
        cut.push(character);
    }
    // What a sequence takes as a whole may be more than the sum of its characters.
    while cut.width() > room {
        cut.pop();
    }
    cut.push('…');
    cut
}
