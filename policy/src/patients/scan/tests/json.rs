use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::patients::scan::json::{Handler, Malformed, Text, Tokenizer};

/// Builds the document again, all of it wanted or none.
#[derive(Default)]
struct Build {
    open: Vec<(Value, Option<String>)>,
    whole: Vec<Value>,
    unwanted: bool,
}

impl Build {
    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            Some((Value::Array(items), _)) => items.push(value),
            Some((Value::Object(members), key)) => {
                members.insert(key.take().expect("a key before a value"), value);
            }
            _ => self.whole.push(value),
        }
    }
}

impl Handler for Build {
    fn begin(&mut self, array: bool) {
        let value = if array { Value::Array(Vec::new()) } else { Value::Object(serde_json::Map::new()) };
        self.open.push((value, None));
    }

    fn end(&mut self) {
        let (value, _) = self.open.pop().expect("something is open");
        self.put(value);
    }

    fn key(&mut self, name: &[u8]) {
        self.open.last_mut().expect("an object").1 = Some(String::from_utf8_lossy(name).into_owned());
    }

    fn wants(&self) -> bool {
        !self.unwanted
    }

    fn scalar(&mut self, text: Option<Text<'_>>) {
        let value = match text {
            None => Value::Null,
            Some(text) => {
                let plain = String::from_utf8_lossy(text.bytes).into_owned();
                if text.quoted { Value::String(plain) } else { serde_json::from_str(&plain).expect("a scalar") }
            }
        };
        self.put(value);
    }
}

fn build(bytes: &[u8], pieces: &[usize], unwanted: bool) -> Result<Vec<Value>, Malformed> {
    let (mut tokenizer, mut build) = (Tokenizer::default(), Build { unwanted, ..Build::default() });
    let mut rest = bytes;
    for piece in pieces.iter().chain(std::iter::repeat(&3)) {
        if rest.is_empty() {
            break;
        }
        let (taken, after) = rest.split_at((*piece).min(rest.len()));
        tokenizer.feed(taken, &mut build)?;
        rest = after;
    }
    tokenizer.finish(&mut build)?;
    Ok(build.whole)
}

fn documents() -> impl Strategy<Value = Value> {
    let text = prop_oneof![".{0,30}", "[\\\\\"\u{0}-\u{1f}山🏥]{0,12}", "x{0,80}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(text.clone(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// As serde_json writes it, or with every character escaped.
fn written(document: &Value, pretty: bool, escaped: bool) -> String {
    let plain = if pretty { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
    let plain = plain.unwrap();
    if !escaped {
        return plain;
    }
    let mut out = String::new();
    for character in plain.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
        }
    }
    out
}

/// The document with every scalar gone.
fn skeleton(document: &Value) -> Value {
    match document {
        Value::Array(items) => items.iter().map(skeleton).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), skeleton(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Value::Null,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_document_is_read_as_serde_json_reads_it(
        document in documents(), pretty: bool, escaped: bool, pieces in proptest::collection::vec(1_usize..40, 0..30),
    ) {
        let text = written(&document, pretty, escaped);
        prop_assert_eq!(build(text.as_bytes(), &pieces, false), Ok(vec![document.clone()]));
        prop_assert_eq!(build(text.as_bytes(), &pieces, true), Ok(vec![skeleton(&document)]));
        let marked = format!("\u{feff}{text}\n{text}");
        prop_assert_eq!(build(marked.as_bytes(), &pieces, false), Ok(vec![document.clone(), document]));
    }

    #[test]
    fn what_serde_json_takes_is_taken_and_pieces_change_nothing(
        text in "([\\[\\]{},: ]|\"a\"|\"\\\\u[0-9a-f]{4}\"|\"\\\\\"|1|null|-|\"|\\\\){0,24}",
        pieces in proptest::collection::vec(1_usize..9, 0..12),
    ) {
        struct Ignore;
        impl Handler for Ignore {
            fn begin(&mut self, _: bool) {}
            fn end(&mut self) {}
            fn key(&mut self, _: &[u8]) {}
            fn wants(&self) -> bool { true }
            fn scalar(&mut self, _: Option<Text<'_>>) {}
        }
        let read = |piece: usize| {
            let mut tokenizer = Tokenizer::default();
            text.as_bytes().chunks(piece).try_for_each(|bytes| tokenizer.feed(bytes, &mut Ignore))?;
            tokenizer.finish(&mut Ignore)
        };
        let whole = read(text.len().max(1));
        for piece in pieces {
            prop_assert_eq!(read(piece), whole);
        }
        if serde_json::from_str::<Value>(&text).is_ok() {
            prop_assert_eq!(whole, Ok(()));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_pieces_change_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50, what in 0..4_usize,
    ) {
        let types = ["application/json", "application/dicom", "multipart/related; boundary=a", "application/x-www-form-urlencoded"];
        let paths = ["/fhir/Patient", "/dicom-web/studies", "/dicom-web/studies", "/fhir/Patient/_search"];
        let plan = planned("POST", paths[what]).unwrap();
        let scanner = || plan.request(head(types[what])).unwrap();
        prop_assert_eq!(scan(scanner(), &bytes, piece), scan(scanner(), &bytes, 4096));
    }
}

#[test]
fn escapes_across_pieces() {
    let text = r#"["\ud83c\udfe5","\ud83c","\udfe5x","\ud83c\ud83c\udfe5","\u0041\n\/\\\"\b\f\r\t"]"#;
    let expected = serde_json::json!(["🏥", "\u{fffd}", "\u{fffd}x", "\u{fffd}🏥", "A\n/\\\"\u{8}\u{c}\r\t"]);
    for piece in 1..text.len() {
        assert_eq!(build(text.as_bytes(), &vec![piece; 200], false), Ok(vec![expected.clone()]), "{piece}");
    }
}

#[test]
fn a_long_text_is_cut_and_told() {
    struct Longest(usize, bool);
    impl Handler for Longest {
        fn begin(&mut self, _: bool) {}
        fn end(&mut self) {}
        fn key(&mut self, _: &[u8]) {}
        fn wants(&self) -> bool {
            true
        }
        fn scalar(&mut self, text: Option<Text<'_>>) {
            let text = text.expect("it is wanted");
            (self.0, self.1) = (text.bytes.len(), text.cut);
        }
    }
    for (length, expected) in [(4_096, (4_096, false)), (4_097, (4_096, true)), (100_000, (4_096, true))] {
        for piece in [1_000, 200_000] {
            let text = format!("\"{}\"", "x".repeat(length));
            let (mut tokenizer, mut longest) = (Tokenizer::default(), Longest(0, false));
            text.as_bytes().chunks(piece).try_for_each(|bytes| tokenizer.feed(bytes, &mut longest)).unwrap();
            assert_eq!((longest.0, longest.1), expected, "{length} in {piece}");
        }
    }
}
