//! Reads single values out of the JSON objects that `value.rs` writes.
//!
//! Read [`JsonLookup`] and [`MemberReader`]. Keys are found in the one way in which `value.rs`
//! writes them; spaces between tokens, as others write them, are skipped. This is not a JSON
//! parser, but never panics or loops on other text.

use std::borrow::Cow;

use memchr::memmem;

use super::value::write_json_string;

/// Finds one key at the top level of JSON objects; made once, used for many objects.
#[derive(Debug, Clone)]
pub struct JsonLookup {
    /// The key as it stands in the text: quoted and escaped.
    needle: String,
    finder: memmem::Finder<'static>,
    /// Whether the key, with its quotes, may also be found from the closing quote of one string
    /// to the opening quote of the next.
    ambiguous: bool,
}

impl JsonLookup {
    /// A lookup of `key`.
    pub fn new(key: &str) -> Self {
        let mut needle = String::with_capacity(key.len() + 2);
        write_json_string(key, &mut needle);
        let finder = memmem::Finder::new(needle.as_bytes()).into_owned();
        let between = |byte: u8| b",:]}".contains(&byte) || byte.is_ascii_whitespace();
        Self {
            ambiguous: key.bytes().next().is_none_or(between),
            needle,
            finder,
        }
    }

    /// The value of the key in `object`, as raw JSON text; `None` where the key is absent.
    pub fn find<'a>(&self, object: &'a str) -> Option<&'a str> {
        let bytes = object.as_bytes();
        let mut from = 0;
        while let Some(at) = self.finder.find(&bytes[from..]).map(|at| at + from) {
            if self.ambiguous {
                return self.walk(object);
            }
            // Quotes inside strings are escaped, so a quote after `{` or `,` opens a key or a
            // string; the colon after the needle's closing quote makes it a key.
            let colon = skip_space(bytes, at + self.needle.len());
            if bytes.get(colon) == Some(&b':')
                && matches!(byte_before(bytes, at), Some(b'{' | b','))
            {
                // Only a brace before it can have put it below the top level, or a string
                // that looks like one: then the tokens are walked.
                let first = skip_space(bytes, 0) + 1;
                if memchr::memchr(b'{', bytes.get(first..at).unwrap_or_default()).is_none() {
                    let start = skip_space(bytes, colon + 1);
                    return Some(trimmed(object, start, value_end(bytes, start)));
                }
                return self.walk(object);
            }
            from = at + 1;
        }
        None
    }

    fn walk<'a>(&self, object: &'a str) -> Option<&'a str> {
        members(object).find_map(|(key, value)| (key == self.needle).then_some(value))
    }
}

/// The value of `key` in `object` as raw JSON text; for many objects make a [`JsonLookup`].
pub fn lookup<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    JsonLookup::new(key).find(object)
}

/// The members of a JSON object in order: the quoted, escaped key and the raw value.
pub fn members(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let bytes = object.as_bytes();
    let open = skip_space(bytes, 0);
    let is_object = bytes.get(open) == Some(&b'{');
    let mut at = open + 1;
    std::iter::from_fn(move || {
        at = skip_space(bytes, at);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
        if !is_object || bytes.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = string_end(bytes, at);
        let colon = skip_space(bytes, key_end);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let start = skip_space(bytes, colon + 1);
        let end = value_end(bytes, start);
        let member = (&object[at..key_end], trimmed(object, start, end));
        at = end;
        Some(member)
    })
}

/// The item of a JSON list at a place, as raw JSON text: from its start from 0 on, from its end
/// from -1 down; `None` where there is none, or `list` is no list.
pub fn list_item(list: &str, index: i64) -> Option<&str> {
    let items = || list_items(list);
    match usize::try_from(index) {
        Ok(index) => items().nth(index),
        Err(_) => {
            let from_end = usize::try_from(index.unsigned_abs()).ok()?;
            let count = items().count();
            items().nth(count.checked_sub(from_end)?)
        }
    }
}

/// The raw items of a JSON list, in order.
pub(super) fn list_items(list: &str) -> impl Iterator<Item = &str> {
    let bytes = list.as_bytes();
    let open = skip_space(bytes, 0);
    let is_list = bytes.get(open) == Some(&b'[');
    let mut at = open + 1;
    std::iter::from_fn(move || {
        at = skip_space(bytes, at);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
        if !is_list || matches!(bytes.get(at), None | Some(b']' | b'}' | b',' | b':')) {
            return None;
        }
        let end = value_end(bytes, at);
        let item = trimmed(list, at, end);
        at = end;
        Some(item)
    })
}

/// Reads the members of an object that is written as `value.rs` writes it, one after another,
/// and tells where a text is not.
#[derive(Debug, Clone)]
pub struct MemberReader<'a> {
    object: &'a str,
    /// Where the next member begins, or where the object ended.
    at: usize,
    state: MemberState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Members,
    Ended,
    Broken,
}

impl<'a> MemberReader<'a> {
    /// A reader of `object`.
    pub fn new(object: &'a str) -> Self {
        let state = match object.as_bytes() {
            b"{}" => MemberState::Ended,
            [b'{', b'"', ..] => MemberState::Members,
            _ => MemberState::Broken,
        };
        Self {
            object,
            at: 1,
            state,
        }
    }

    /// The value of the next member, if its quoted key with its colon is `key`.
    pub fn value_of(&mut self, key: &str) -> Option<&'a str> {
        let is_next = self.state == MemberState::Members
            && self.object.as_bytes()[self.at..].starts_with(key.as_bytes());
        is_next.then(|| self.value(self.at + key.len()))
    }

    /// The next member: its quoted key with its colon, and its raw value.
    pub fn member(&mut self) -> Option<(&'a str, &'a str)> {
        if self.state != MemberState::Members {
            return None;
        }
        let bytes = self.object.as_bytes();
        let key_end = string_end(bytes, self.at);
        if bytes.get(key_end) != Some(&b':') {
            self.state = MemberState::Broken;
            return None;
        }
        let key = &self.object[self.at..=key_end];
        Some((key, self.value(key_end + 1)))
    }

    /// Whether all members were read, and, put together with commas between them and braces
    /// around them, are the object's very text.
    pub fn is_whole(&self) -> bool {
        self.state == MemberState::Ended
    }

    /// The value that begins at `start`, and the step to the next member.
    fn value(&mut self, start: usize) -> &'a str {
        let bytes = self.object.as_bytes();
        let end = value_end(bytes, start);
        let value = &bytes[start..end];
        let space = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
        self.state = match &bytes[end..] {
            // A lookup leaves spaces out.
            _ if space(value.first()) || space(value.last()) => MemberState::Broken,
            [b',', b'"', ..] => MemberState::Members,
            [b'}'] => MemberState::Ended,
            _ => MemberState::Broken,
        };
        self.at = end + 1;
        &self.object[start..end]
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The last byte before `at` that is no space.
fn byte_before(bytes: &[u8], at: usize) -> Option<&u8> {
    let before = bytes[..at].iter().rev();
    before.into_iter().find(|byte| !byte.is_ascii_whitespace())
}

/// A value without the spaces after it.
fn trimmed(text: &str, start: usize, end: usize) -> &str {
    text[start..end].trim_end_matches([' ', '\t', '\n', '\r'])
}

/// Where the value that starts at `start` ends.
fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b':' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Where the string that opens at `start` ends, past its closing quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// A raw JSON value as the text SQL shows for it: a string without its quotes, `$double` and
/// `$bytes` as what they hold, anything else as it stands; `None` for JSON `null`.
pub fn render_value(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first() {
        Some(b'"') => Some(unquote(raw)),
        Some(b'n') => None,
        Some(b'{') => {
            let mut entries = members(raw);
            match (entries.next(), entries.next()) {
                (Some(("\"$double\"" | "\"$bytes\"", inner)), None) => Some(unquote(inner)),
                _ => Some(Cow::Borrowed(raw)),
            }
        }
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// A JSON string without its quotes and escapes.
pub fn unquote(raw: &str) -> Cow<'_, str> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(raw);
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::super::value::write_attributes;
    use super::*;

    #[test]
    fn finds_top_level_keys_only() {
        let object = r#"{"a":{"k":1},"s":"x,\"k\":2","k":[1,{"k":3}],"z":null}"#;
        assert_eq!(lookup(object, "k"), Some(r#"[1,{"k":3}]"#));
        assert_eq!(lookup(object, "s"), Some(r#""x,\"k\":2""#));
        assert_eq!(lookup(object, "z"), Some("null"));
        assert_eq!(lookup(object, "missing"), None);
        assert_eq!(lookup("{}", "k"), None);
    }

    #[test]
    fn hostile_keys_are_found_as_written() {
        let keys = ["", "\"", "a\\", "a.b", "новый\n", "{\"k\":1,", "$bytes"];
        let entries: Vec<_> = keys
            .iter()
            .map(|key| (key.to_string(), Value::String(format!("v{key}"))))
            .collect();
        let mut object = String::new();
        write_attributes(&entries, &mut object);
        for key in keys {
            let raw = lookup(&object, key).unwrap();
            assert_eq!(render_value(raw).unwrap(), format!("v{key}"));
        }
    }

    #[test]
    fn text_of_a_value_is_what_a_person_expects() {
        for (raw, text) in [
            (r#""plain""#, Some("plain")),
            (r#""a\"b""#, Some("a\"b")),
            ("500", Some("500")),
            ("null", None),
            (r#"{"$double":"NaN"}"#, Some("NaN")),
            (r#"{"a":1}"#, Some(r#"{"a":1}"#)),
        ] {
            assert_eq!(render_value(raw).as_deref(), text);
        }
    }

    #[test]
    fn broken_text_ends_quietly() {
        for broken in [
            "",
            "{",
            "{\"",
            "{\"a",
            "{\"a\":",
            "{\"a\":\"\\",
            "[[[",
            "{\"a\":{\"b\":",
        ] {
            let _ = lookup(broken, "a");
            assert!(members(broken).count() < 3);
        }
    }
}
