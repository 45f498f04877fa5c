//! Reads single values out of the JSON objects that `value.rs` writes.
//!
//! Read [`JsonLookup`]. It relies on that writer's form: no spaces between tokens, one way to
//! escape a character. It is not a JSON parser, but never panics or loops on other text.

use std::borrow::Cow;

use memchr::memmem;

use super::value::write_json_string;

/// Finds one key at the top level of JSON objects; made once, used for many objects.
#[derive(Debug, Clone)]
pub struct JsonLookup {
    /// The key as it stands in the text: quoted, escaped, with its colon.
    needle: String,
    finder: memmem::Finder<'static>,
}

impl JsonLookup {
    /// A lookup of `key`.
    pub fn new(key: &str) -> Self {
        let mut needle = String::with_capacity(key.len() + 3);
        write_json_string(key, &mut needle);
        needle.push(':');
        let finder = memmem::Finder::new(needle.as_bytes()).into_owned();
        Self { needle, finder }
    }

    /// The value of the key in `object`, as raw JSON text; `None` where the key is absent.
    pub fn find<'a>(&self, object: &'a str) -> Option<&'a str> {
        let bytes = object.as_bytes();
        let mut from = 0;
        while let Some(at) = self.finder.find(&bytes[from..]).map(|at| at + from) {
            // Quotes inside strings are escaped, so a quote after `{` or `,` opens a key or a
            // string; the colon after the needle's closing quote makes it a key.
            if at > 0 && matches!(bytes[at - 1], b'{' | b',') {
                // Only a brace before it can have put it below the top level, or a string
                // that looks like one: then the tokens are walked.
                if memchr::memchr(b'{', &bytes[1..at]).is_none() {
                    let start = at + self.needle.len();
                    return Some(&object[start..value_end(bytes, start)]);
                }
                return self.walk(object);
            }
            from = at + 1;
        }
        None
    }

    fn walk<'a>(&self, object: &'a str) -> Option<&'a str> {
        let wanted = &self.needle[..self.needle.len() - 1];
        members(object).find_map(|(key, value)| (key == wanted).then_some(value))
    }
}

/// The value of `key` in `object` as raw JSON text; for many objects make a [`JsonLookup`].
pub fn lookup<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    JsonLookup::new(key).find(object)
}

/// The members of a JSON object in order: the quoted, escaped key and the raw value.
pub fn members(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let bytes = object.as_bytes();
    let mut at = 1;
    std::iter::from_fn(move || {
        if bytes.get(at) == Some(&b',') {
            at += 1;
        }
        if bytes.first() != Some(&b'{') || bytes.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = value_end(bytes, at);
        if bytes.get(key_end) != Some(&b':') {
            return None;
        }
        let end = value_end(bytes, key_end + 1);
        let member = (&object[at..key_end], &object[key_end + 1..end]);
        at = end;
        Some(member)
    })
}

/// The raw items of a JSON array, in order.
pub(super) fn elements(array: &str) -> impl Iterator<Item = &str> {
    let bytes = array.as_bytes();
    let mut at = 1;
    std::iter::from_fn(move || {
        if at > 1 && bytes.get(at) == Some(&b',') {
            at += 1;
        }
        if bytes.first() != Some(&b'[') || matches!(bytes.get(at), None | Some(b']')) {
            return None;
        }
        let end = value_end(bytes, at);
        if end == at {
            return None;
        }
        let item = &array[at..end];
        at = end;
        Some(item)
    })
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
