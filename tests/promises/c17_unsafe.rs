//! C17: memory safety is the compiler's word. The product's own code has `unsafe` in the modules named here and
//! nowhere else; parsers that face strangers are fuzzed besides (`tests/fuzz`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module with `unsafe`, and how often the word stands in it. A line more here is a decision to be reviewed.
const NAMED: &[(&str, usize)] = &[("gateway/src/clock/timex.rs", 2)];

/// The crates whose code faces strangers, and what their root says.
const ROOTS: &[(&str, &str)] = &[
    ("certs/src/lib.rs", "#![forbid(unsafe_code)]"),
    ("gateway/audit/src/lib.rs", "#![forbid(unsafe_code)]"),
    ("gateway/export/src/lib.rs", "#![forbid(unsafe_code)]"),
    ("gateway/src/lib.rs", "#![deny(unsafe_code)]"),
    ("policy/src/lib.rs", "#![forbid(unsafe_code)]"),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

#[test]
fn c17_unsafe_code_is_in_named_modules_only() {
    let root = repository();
    let mut found = BTreeMap::new();
    let mut files = 0;
    for crate_folder in ["certs", "gateway", "policy"] {
        for path in rust_files(&root.join(crate_folder)) {
            files += 1;
            let count = words(&fs::read_to_string(&path).unwrap()).filter(|word| *word == "unsafe").count();
            if count > 0 {
                found.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), count);
            }
        }
    }
    assert!(files > 100, "only {files} files were looked at");
    let named: BTreeMap<String, usize> = NAMED.iter().map(|(file, count)| ((*file).to_owned(), *count)).collect();
    assert_eq!(found, named);
}

#[test]
fn c17_every_crate_refuses_unsafe_code() {
    for (file, attribute) in ROOTS {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        assert!(text.lines().any(|line| line == *attribute), "{file} lacks {attribute}");
    }
}

#[test]
fn the_scan_reads_code_only() {
    let text = r###"
        // unsafe
        /* unsafe /* nested */ unsafe */
        let (a, b) = ("unsafe \" unsafe", r#"unsafe " unsafe"#);
        let (c, d, e): (char, u8, &'static [u8]) = ('"', b'\'', br"unsafe");
        fn unsafe_code<'a>(x: &'a str) { unsafe { y() } }
        let f = '\u{22}'; unsafe fn z() {}
    "###;
    assert_eq!(words(text).filter(|word| *word == "unsafe").count(), 2);
    assert!(words(text).any(|word| word == "unsafe_code"));
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The identifiers and keywords of a Rust text, without comments and literals.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            if first == '_' || first.is_alphanumeric() {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(length);
                rest = tail;
                let raw = matches!(word, "r" | "br" | "cr");
                let hashes = rest.len() - rest.trim_start_matches('#').len();
                if raw && rest[hashes..].starts_with('"') {
                    let end = format!("\"{}", "#".repeat(hashes));
                    rest = after(&rest[hashes + 1..], &end);
                    continue;
                }
                return Some(word);
            }
            rest = match first {
                '/' if rest.starts_with("//") => after(rest, "\n"),
                '/' if rest.starts_with("/*") => after_comment(rest),
                '"' => after_quoted(&rest[1..], '"'),
                '\'' if is_character(rest) => after_quoted(&rest[1..], '\''),
                _ => &rest[first.len_utf8()..],
            };
        }
    })
}

fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.find(end).map_or("", |at| &text[at + end.len()..])
}

/// Block comments nest.
fn after_comment(text: &str) -> &str {
    let (mut depth, mut rest) = (0, text);
    loop {
        if let Some(tail) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, tail);
        } else if let Some(tail) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, tail);
        } else {
            rest = rest.chars().next().map_or("", |c| &rest[c.len_utf8()..]);
        }
        if depth == 0 || rest.is_empty() {
            return rest;
        }
    }
}

fn after_quoted(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// A character's literal rather than a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}
