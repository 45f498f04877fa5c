//! Reads the fields of JSON values whose whole text is at hand, leniently where protobuf's JSON
//! mapping is.
//!
//! Read [`parse`] first: it bounds the depth before anything recurses. The other types here are
//! numbers that may be quoted and objects that may be null.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::span::Value;

/// The deepest nesting that is parsed. Forty levels of OTLP key-value lists, more than protobuf's
/// limit of 100 messages admits, are 172 levels of JSON.
const MAX_DEPTH: usize = 200;

/// Parses an object, not deeper than [`MAX_DEPTH`].
pub(super) fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    check_depth(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    let value = Object::<T>::deserialize(&mut deserializer).map_err(|error| reason(&error))?;
    deserializer.end().map_err(|error| reason(&error))?;
    Ok(value.0)
}

/// Parses an array, not deeper than [`MAX_DEPTH`].
pub(super) fn parse_array<'de, T: Deserialize<'de>>(text: &'de str) -> Result<Vec<T>, String> {
    check_depth(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    let values = Vec::<T>::deserialize(&mut deserializer).map_err(|error| reason(&error))?;
    deserializer.end().map_err(|error| reason(&error))?;
    Ok(values)
}

/// Parses an object whose deep parts are taken as raw text, so that depth is no danger.
pub(super) fn parse_shallow<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    serde_json::from_str::<Object<T>>(text)
        .map(|object| object.0)
        .map_err(|error| reason(&error))
}

/// The parser's message without its position, which counts from the wrong place.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text
        .rfind(" at line ")
        .map_or(text.as_str(), |at| &text[..at]);
    message.chars().take(200).collect()
}

fn check_depth(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("nested deeper than {MAX_DEPTH} levels of JSON"));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                at += 1;
                while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..])
                {
                    at += found;
                    if bytes[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// A value that must be an object; derived structs alone would take an array as well.
#[derive(Debug, Clone)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// The field's value, or the default where it is null, as protobuf's JSON mapping has it.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// The objects of an array, none where it is null.
pub(super) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let found = Option::<Vec<Object<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(found.into_iter().map(|object| object.0).collect())
}

/// A whole number, plain or quoted. A number with a point or an exponent is taken where a double
/// holds it exactly, that is below 2^53.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Whole(i128);

impl Whole {
    /// As the type wanted, or why not.
    pub(super) fn get<T: TryFrom<i128>>(self, what: &str) -> Result<T, String> {
        T::try_from(self.0).map_err(|_| format!("{what} {} is out of range", self.0))
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Number::deserialize(deserializer)? {
            Number::Whole(number) => Ok(Self(number)),
            Number::Double(number) => Err(de::Error::custom(format!(
                "{number:?} is not a whole number, or too large to be one exactly"
            ))),
        }
    }
}

/// A number, plain or quoted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(i128),
    Double(f64),
}

impl Number {
    /// Reads the text of a number; `NaN` and infinities as protobuf's JSON mapping spells them.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i128>() {
            return Some(Self::Whole(number));
        }
        match text {
            "NaN" => Some(Self::Double(f64::NAN)),
            "Infinity" => Some(Self::Double(f64::INFINITY)),
            "-Infinity" => Some(Self::Double(f64::NEG_INFINITY)),
            _ if text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) =>
            {
                text.parse::<f64>().ok().map(Self::from_double)
            }
            _ => None,
        }
    }

    /// As a double; the nearest one, as for any number of JSON.
    pub(super) fn to_double(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Double(number) => number,
        }
    }

    fn from_double(number: f64) -> Self {
        if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
            Self::Whole(number as i128)
        } else {
            Self::Double(number)
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, plain or in quotes")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number::Whole(number.into()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number::Whole(number.into()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Number, E> {
                Ok(Number::from_double(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                Number::from_text(text)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

/// A double, plain or quoted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Double(pub(super) f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        let number = if raw.starts_with('"') {
            let text: Cow<'_, str> = serde_json::from_str(raw).map_err(de::Error::custom)?;
            Number::from_text(&text).map(Number::to_double)
        } else {
            raw.parse().ok()
        };
        number.map(Self).ok_or_else(|| {
            let shown: String = raw.chars().take(64).collect();
            de::Error::custom(format!("doubleValue {shown} is not a number"))
        })
    }
}

/// A time or duration in microseconds, perhaps with a fraction, as nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Micros(pub(super) i64);

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        let nanos = match number {
            Number::Whole(micros) => micros
                .checked_mul(1000)
                .and_then(|nanos| i64::try_from(nanos).ok()),
            Number::Double(micros) if micros.is_finite() && micros.abs() < 9.2e15 => {
                // Whole and fraction apart, since their product would lose digits.
                let fraction = (micros.fract() * 1000.0).round() as i64;
                Some(micros.trunc() as i64 * 1000 + fraction)
            }
            Number::Double(_) => None,
        };
        nanos.map(Self).ok_or_else(|| {
            let shown = match number {
                Number::Whole(micros) => micros.to_string(),
                Number::Double(micros) => micros.to_string(),
            };
            de::Error::custom(format!(
                "{shown} microseconds do not fit a signed 64-bit number of nanoseconds"
            ))
        })
    }
}

/// The bytes of base64 text, standard or URL-safe, padded or not.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let engine = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    engine.decode(text).ok()
}

/// Plain JSON as an attribute's value, each type kept.
pub(super) fn value_of_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(bit) => Value::Bool(bit),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            // Beyond 64 signed bits the digits are worth more than the type.
            None if number.is_u64() => Value::String(number.to_string()),
            None => number.as_f64().map_or(Value::Null, Value::Double),
        },
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => {
            Value::Array(items.into_iter().map(value_of_json).collect())
        }
        serde_json::Value::Object(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key, value_of_json(value)))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_the_nearest_double() {
        // Digits at which a quick parser misses it by one.
        let text = "0.9073038322028689";
        let nearest: f64 = text.parse().unwrap();
        let json = serde_json::from_str(text).unwrap();
        assert_eq!(value_of_json(json), Value::Double(nearest));
        let number: Number = serde_json::from_str(text).unwrap();
        assert_eq!(number.to_double().to_bits(), nearest.to_bits());
    }

    #[test]
    fn whole_numbers_keep_every_digit() {
        let whole = |text: &str| {
            serde_json::from_str::<Whole>(text)
                .map_err(|error| error.to_string())
                .and_then(|number| number.get::<u64>("number"))
        };
        assert_eq!(whole("1684617382541971001"), Ok(1684617382541971001));
        assert_eq!(whole("\"18446744073709551615\""), Ok(u64::MAX));
        assert_eq!(whole("5.0"), Ok(5));
        assert_eq!(whole("\"1e3\""), Ok(1000));
        for text in [
            "-5",
            "\"18446744073709551616\"",
            "1.7e18",
            "5.5",
            "\"x\"",
            "true",
            "\"\"",
        ] {
            assert!(whole(text).is_err(), "{text}");
        }
    }

    #[test]
    fn microseconds_become_nanoseconds_exactly() {
        let micros = |text: &str| {
            serde_json::from_str::<Micros>(text)
                .map(|micros| micros.0)
                .ok()
        };
        assert_eq!(micros("1700000000000000"), Some(1_700_000_000_000_000_000));
        assert_eq!(
            micros("1700000000000000.5"),
            Some(1_700_000_000_000_000_500)
        );
        assert_eq!(micros("\"12.7\""), Some(12_700));
        assert_eq!(micros("-5"), Some(-5000));
        assert_eq!(micros("9223372036854775807"), None);
        assert_eq!(micros("\"invalid\""), None);
        assert_eq!(micros("\"NaN\""), None);
    }

    #[test]
    fn depth_is_bounded_before_parsing() {
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse::<serde_json::Value>(&nested(MAX_DEPTH - 1)).is_ok());
        assert!(parse::<serde_json::Value>(&nested(MAX_DEPTH)).is_err());
        assert!(parse::<serde_json::Value>(&"{\"a\":".repeat(1_000_000)).is_err());
        // Brackets in strings do not count, nor does a string that never ends.
        let text = format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(1000));
        assert!(parse::<serde_json::Value>(&text).is_ok());
        assert!(parse::<serde_json::Value>("{\"a\\").is_err());
    }

    #[test]
    fn base64_comes_in_all_its_spellings() {
        for text in ["+/8=", "-_8=", "-_8", "+/8"] {
            assert_eq!(decode_base64(text), Some(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(decode_base64("***"), None);
    }
}
