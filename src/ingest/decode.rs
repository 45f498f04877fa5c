//! The way in: any input, in any format.
//!
//! Read [`decode`].

use std::io::Read;

use super::format::{Encoding, says_json_lines, says_protobuf, sniff};
use super::input::{Input, InputError};
use super::json_document::decode_json;
use super::otlp_proto::decode_protobuf;
use super::{Format, Location, Rejection, SpanSink};
use crate::error::Result;

/// How many bytes are looked at to tell the formats apart.
const HEAD_BYTES: usize = 1024;

/// Decodes everything `input` holds, and hands it to `sink`; returns the format found, `None`
/// where the input had nothing in it that tells.
///
/// gzip and zstd are recognized. `format` overrides what is found by the first bytes and keys;
/// `name` helps with its ending. Memory is bounded whatever the size of the input: of JSON one
/// element of the arrays around the spans is held (one resource's spans, one Jaeger trace; at most
/// 128 MiB), of protobuf one message (at most 64 MiB), of Zipkin also up to 65,536 decoded spans,
/// to join shared ones.
///
/// What cannot be decoded is rejected, not an error: a span alone wherever its envelope can be
/// read, else the element, line or message. Errors are those of `input` and of `sink`.
pub fn decode(
    input: impl Read,
    name: &str,
    format: Option<Format>,
    sink: &mut dyn SpanSink,
) -> Result<Option<Format>> {
    let mut input = Input::new(input)?;
    let encoding = match format {
        Some(Format::OtlpProtobuf) => Encoding::Protobuf,
        Some(_) => Encoding::Json,
        None => match input.ensure(HEAD_BYTES) {
            Ok(head) => {
                let found = sniff(name, &head[..head.len().min(HEAD_BYTES)]);
                // A line feed is also the first byte of a request.
                let is_blank = head.len() < HEAD_BYTES && head.iter().all(u8::is_ascii_whitespace);
                if is_blank && (head.is_empty() || !says_protobuf(name)) {
                    return Ok(None);
                }
                found
            }
            Err(InputError::Source(error)) => return Err(error),
            Err(InputError::Damaged(reason)) => return reject_input(sink, reason),
        },
    };
    match encoding {
        Encoding::Json => decode_json(input, format, says_json_lines(name), sink),
        Encoding::Protobuf => {
            decode_protobuf(input, sink)?;
            Ok(Some(Format::OtlpProtobuf))
        }
        Encoding::Unknown => {
            let reason = "neither JSON nor OTLP protobuf; name the format if it is one";
            reject_input(sink, reason.to_string())
        }
    }
}

fn reject_input(sink: &mut dyn SpanSink, reason: String) -> Result<Option<Format>> {
    sink.reject(Rejection {
        location: Location::Input,
        reason,
        span_count: 0,
    })?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;
    use crate::ingest::{encode_otlp_json, encode_otlp_proto};
    use crate::span::{
        Attributes, Event, Link, Origin, Resource, Scope, Span, SpanId, SpanKind, StatusCode,
        TraceId, Value,
    };

    #[derive(Default)]
    struct Found {
        spans: Vec<(Origin, Span)>,
        rejections: Vec<Rejection>,
        is_strict: bool,
    }

    impl SpanSink for Found {
        fn span(&mut self, origin: &Origin, span: &Span) -> Result<()> {
            self.spans.push((origin.clone(), span.clone()));
            Ok(())
        }

        fn reject(&mut self, rejection: Rejection) -> Result<()> {
            if self.is_strict {
                return Err(Error::invalid_input(rejection.to_string()));
            }
            self.rejections.push(rejection);
            Ok(())
        }
    }

    fn decoded(bytes: &[u8]) -> (Option<Format>, Found) {
        let mut found = Found::default();
        let format = decode(bytes, "-", None, &mut found).unwrap();
        (format, found)
    }

    const GOOD: &str =
        r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"1112131415161718"}"#;

    fn otlp(spans: &str) -> String {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#)
    }

    #[test]
    fn a_bad_span_costs_no_other_and_is_named() {
        let bad = GOOD.replace("11121314", "zz");
        let text = format!("{}\n{}\n", otlp(GOOD), otlp(&[GOOD, &bad, GOOD].join(",")));
        let (format, found) = decoded(text.as_bytes());
        assert_eq!((format, found.spans.len()), (Some(Format::OtlpJson), 3));
        assert_eq!(
            found.rejections[0].location,
            Location::SpanOfLine { span: 2, line: 2 }
        );
        assert_eq!(found.rejections[0].span_count, 1);
        assert!(found.rejections[0].reason.contains("malformed span id"));
    }

    #[test]
    fn frames_of_every_shape_are_seen() {
        let pretty = otlp(GOOD).replace('[', "[\n").replace(',', ",\n");
        let zipkin = r#"{"traceId":"a","id":"b"}"#;
        let jaeger = r#"{"traceID":"a","spanID":"b"}"#;
        let cases: [(String, Option<Format>, usize, usize); 15] = [
            (String::new(), None, 0, 0),
            (" \n".into(), None, 0, 0),
            ("{}".into(), None, 0, 0),
            ("[]".into(), None, 0, 0),
            (format!("{pretty}\n{pretty}"), Some(Format::OtlpJson), 2, 0),
            (
                format!("[{},{}]", otlp(GOOD), otlp(GOOD)),
                Some(Format::OtlpJson),
                2,
                0,
            ),
            (
                otlp(GOOD).replace("resourceSpans", "batches"),
                Some(Format::OtlpJson),
                1,
                0,
            ),
            (format!("[{zipkin},{zipkin}]"), Some(Format::Zipkin), 2, 0),
            (
                format!("[[{zipkin}],[{zipkin}]]"),
                Some(Format::Zipkin),
                2,
                0,
            ),
            (format!("{zipkin}\n{zipkin}\n"), Some(Format::Zipkin), 2, 0),
            (
                format!(r#"{{"total":1,"data":[{{"spans":[{jaeger}]}}]}}"#),
                Some(Format::Jaeger),
                1,
                0,
            ),
            (
                format!(r#"{{"spans":[{jaeger}],"traceID":"a"}}"#),
                Some(Format::Jaeger),
                1,
                0,
            ),
            (format!("[{jaeger}]"), Some(Format::Jaeger), 1, 0),
            (
                r#"{"data":null,"errors":[]}"#.into(),
                Some(Format::Jaeger),
                0,
                0,
            ),
            (r#"{"logs":[]}"#.into(), None, 0, 1),
        ];
        for (text, format, spans, rejections) in cases {
            let (found_format, found) = decoded(text.as_bytes());
            let counts = (found.spans.len(), found.rejections.len());
            assert_eq!(
                (found_format, counts),
                (format, (spans, rejections)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_of_the_sink_stops_decoding() {
        let text = format!("nonsense\n{}", otlp(GOOD));
        let mut strict = Found {
            is_strict: true,
            ..Found::default()
        };
        let error = decode(
            text.as_bytes(),
            "a.jsonl",
            Some(Format::OtlpJson),
            &mut strict,
        );
        assert!(error.unwrap_err().message().starts_with("line 1: "));
        assert!(strict.spans.is_empty());
    }

    #[test]
    fn attribute_values_nest_to_the_limit_and_no_further() {
        let nested = |levels: usize| {
            let open = r#"{"kvlistValue":{"values":[{"key":"k","value":"#.repeat(levels);
            let value = format!("{open}{{}}{}", "}]}}".repeat(levels));
            let end = format!(r#","attributes":[{{"key":"k","value":{value}}}]}}"#);
            otlp(&GOOD.replace('}', &end))
        };
        let (_, found) = decoded(nested(45).as_bytes());
        assert_eq!((found.spans.len(), found.rejections.len()), (1, 0));
        for levels in [60, 100_000] {
            let (_, found) = decoded(nested(levels).as_bytes());
            assert_eq!((found.spans.len(), found.rejections.len()), (0, 1));
        }
    }

    #[test]
    fn a_stream_of_messages_goes_on_after_a_bad_one() {
        let mut request = Vec::new();
        let scope_spans = [(Scope::default(), vec![example()])];
        encode_otlp_proto(&Resource::default(), &scope_spans, &mut request);
        let framed = |message: &[u8]| {
            let mut bytes = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend_from_slice(message);
            bytes
        };
        let stream = [
            framed(&request),
            framed(b"\x08\x05"),
            framed(b""),
            framed(&request),
        ]
        .concat();
        let (format, found) = decoded(&stream);
        assert_eq!((format, found.spans.len()), (Some(Format::OtlpProtobuf), 2));
        assert_eq!(found.rejections[0].location, Location::Message(2));
        let (_, found) = decoded(&[&stream[..], b"\x00\xff"].concat());
        assert_eq!((found.spans.len(), found.rejections.len()), (2, 2));
        let (_, found) = decoded(b"\x00\x00\xff\xff\x0a");
        assert_eq!(found.rejections.len(), 1);
        let (_, found) = decoded(b"\x0a\xff\xff\xff\xff\x0f");
        assert!(found.rejections[0].reason.contains("limit"));
    }

    fn example() -> Span {
        let trace_id = TraceId::parse("0102030405060708090a0b0c0d0e0f10").unwrap();
        Span::new(trace_id, SpanId::parse("1112131415161718").unwrap(), 1)
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            ".*".prop_map(Value::String),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e300..1e300f64).prop_map(Value::Double),
            Just(Value::Double(f64::INFINITY)),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((".{0,4}", inner), 0..4).prop_map(Value::Object),
            ]
        })
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        proptest::collection::vec((".{0,8}", any_value()), 0..4)
    }

    fn any_span() -> impl Strategy<Value = Span> {
        let ids = (1..u128::MAX, 1..u64::MAX, any::<u64>());
        // An end of zero means that there is none.
        let times = (1..i64::MAX / 2, -1_000_000..i64::MAX / 2, any::<bool>());
        let rest = (".*", 0..6i64, 0..3i64, ".*", any::<u32>());
        (ids, times, rest, attributes(), attributes()).prop_map(
            |(ids, times, rest, first, second)| {
                let trace_id = TraceId::from_bytes(ids.0.to_be_bytes()).unwrap();
                let mut span = Span::new(
                    trace_id,
                    SpanId::from_bytes(ids.1.to_be_bytes()).unwrap(),
                    times.0,
                );
                span.parent_span_id = SpanId::from_bytes(ids.2.to_be_bytes());
                span.duration_nano = times
                    .2
                    .then_some(times.1)
                    .filter(|duration| times.0 + duration > 0);
                (span.name, span.kind) = (rest.0, SpanKind::from_number(rest.1));
                (span.status_code, span.status_message) = (StatusCode::from_number(rest.2), rest.3);
                span.flags = Some(rest.4).filter(|flags| *flags != 0);
                span.dropped_events_count = rest.4;
                span.events = vec![Event {
                    time_unix_nano: times.0,
                    name: span.name.clone(),
                    attributes: second.clone(),
                    dropped_attributes_count: 3,
                }];
                span.links = vec![Link {
                    trace_id,
                    span_id: span.span_id,
                    trace_state: "a=b".into(),
                    attributes: second,
                    flags: span.flags,
                    dropped_attributes_count: 1,
                }];
                span.attributes = first;
                span
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_encoded_is_decoded_again(
            spans in proptest::collection::vec(any_span(), 1..4),
            entries in attributes(),
            version in ".*",
        ) {
            let resource = Resource { attributes: entries.clone(), dropped_attributes_count: 2, schema_url: version.clone() };
            let scope = Scope { name: "n".into(), version, attributes: entries, ..Scope::default() };
            let origin = Origin::new(&resource, &scope);
            let expected: Vec<_> = spans.iter().map(|span| (origin.clone(), span.clone())).collect();
            let scope_spans = [(scope, spans)];
            let (mut proto, mut json) = (Vec::new(), String::new());
            encode_otlp_proto(&resource, &scope_spans, &mut proto);
            encode_otlp_json(&resource, &scope_spans, &mut json);
            for (bytes, format) in [(&proto[..], Format::OtlpProtobuf), (json.as_bytes(), Format::OtlpJson)] {
                let (found_format, found) = decoded(bytes);
                prop_assert_eq!(found_format, Some(format));
                prop_assert_eq!(&found.rejections, &vec![]);
                prop_assert_eq!(&found.spans, &expected);
            }
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for format in [None, Some(Format::OtlpJson), Some(Format::OtlpProtobuf), Some(Format::Jaeger), Some(Format::Zipkin)] {
                decode(&bytes[..], "-", format, &mut Found::default()).unwrap();
            }
        }

        #[test]
        fn no_damage_to_a_good_file_makes_a_decoder_panic(at in 0usize..500, byte in any::<u8>(), cut in 0usize..500) {
            let zipkin = r#"[{"traceId":"a","id":"b","kind":"SERVER","shared":true,"tags":{"error":"x"},"annotations":[{"timestamp":1,"value":"sr","endpoint":{"ipv4":"1.2.3.4"}}],"binaryAnnotations":[{"key":"sa","value":true,"endpoint":{}}]}]"#;
            let jaeger = r#"{"data":[{"traceID":"a","spans":[{"traceID":"a","spanID":"b","references":[{"refType":"CHILD_OF","traceID":"a","spanID":"c"}],"tags":[{"key":"k","type":"binary","value":"AA=="}],"logs":[{"timestamp":1,"fields":[]}],"processID":"p"}],"processes":{"p":{"serviceName":"s"}}}]}"#;
            let mut proto = Vec::new();
            encode_otlp_proto(&Resource::default(), &[(Scope::default(), vec![example(), example()])], &mut proto);
            for good in [zipkin.as_bytes(), jaeger.as_bytes(), otlp(GOOD).as_bytes(), &proto] {
                let mut bytes = good.to_vec();
                let length = bytes.len();
                bytes[at % length] = byte;
                decode(&bytes[..], "-", None, &mut Found::default()).unwrap();
                decode(&good[..cut % length], "-", None, &mut Found::default()).unwrap();
            }
        }
    }
}
