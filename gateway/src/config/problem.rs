//! What is wrong with a configuration, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", file.display())]
    Unreadable {
        /// The file as it was named.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not a configuration. Holds at least one problem, in the order of the text.
    #[error("{}", Lines(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// Every problem, one line each when displayed.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        match self {
            Self::Unreadable { file, source } => {
                vec![Problem { file, position: None, key: String::new(), message: format!("cannot be read: {source}") }]
            }
            Self::Invalid(problems) => problems,
        }
    }
}

/// One thing that is wrong. Displayed as `file:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named; empty for a text that came from none.
    pub file: PathBuf,
    /// The place in the file, where one place is to blame.
    pub position: Option<Position>,
    /// The full key, such as `listener[0].tls.key_file`; empty where none is to blame.
    pub key: String,
    /// What is wrong: lower case, no full stop, input in backticks and escaped for a terminal.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
        }
        if let Some(position) = self.position {
            write!(f, "{}:{}:", position.line, position.column)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A place in a text. Both numbers start at 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// Where each key of a configuration stands, so that a check made later can still name the place.
#[derive(Clone, Default)]
pub(crate) struct Places {
    pub(super) file: PathBuf,
    pub(super) keys: BTreeMap<String, Position>,
}

impl Places {
    /// The place of a key, or of the innermost table around it that the text holds.
    pub(super) fn find(&self, key: &str) -> Option<Position> {
        let mut key = key;
        loop {
            if let Some(position) = self.keys.get(key) {
                return Some(*position);
            }
            key = key.rsplit_once(['.', '['])?.0;
        }
    }

    pub(super) fn problem(&self, key: &str, message: String) -> Problem {
        Problem { file: self.file.clone(), position: self.find(key), key: key.to_owned(), message }
    }
}

/// Two configurations that say the same are equal, wherever the words stand.
impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places")
    }
}

/// The lines of a text, for turning byte offsets into positions.
pub(super) struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect();
        Self { text, starts }
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.as_bytes().get(start..offset.min(self.text.len())).unwrap_or_default();
        Position { line, column: String::from_utf8_lossy(before).chars().count() + 1 }
    }
}

/// The candidate that a misspelt text most likely meant.
pub(super) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // A quarter of the letters wrong is still a slip, more is another word; short words may have two.
    let slip = (text.chars().count() / 4).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= slip && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `unknown … ; did you mean …?`, or the list of what there is.
pub(super) fn suggestion(text: &str, candidates: &[&str]) -> String {
    match nearest(text, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if candidates.is_empty() => "there is none".to_owned(),
        None => format!("there is {}", list(candidates, "and")),
    }
}

/// `a`, `b` or `c`.
pub(super) fn list(words: &[&str], last: &str) -> String {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            text.push_str(if index + 1 == words.len() { " " } else { ", " });
            if index + 1 == words.len() {
                text.push_str(last);
                text.push(' ');
            }
        }
        text.push('`');
        text.extend(word.escape_debug());
        text.push('`');
    }
    text
}

/// The folder that a file's relative paths start from.
pub(super) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let index = LineIndex::new("a = 1\n「あ」b\n");
        assert_eq!(index.position(0), Position { line: 1, column: 1 });
        assert_eq!(index.position(5), Position { line: 1, column: 6 });
        assert_eq!(index.position(6), Position { line: 2, column: 1 });
        assert_eq!(index.position(15), Position { line: 2, column: 4 });
        assert_eq!(index.position(9999), Position { line: 3, column: 1 });
    }

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        assert_eq!(nearest("directry", ["directory", "durability"]), Some("directory"));
        assert_eq!(nearest("qeue_records", ["queue_records"]), Some("queue_records"));
        assert_eq!(nearest("colour", ["directory", "durability"]), None);
        assert_eq!(nearest("x", ["y", "z"]), None);
    }

    #[test]
    fn a_key_without_a_place_is_blamed_on_its_table() {
        let mut places = Places::default();
        places.keys.insert("listener[0].tls".to_owned(), Position { line: 7, column: 1 });
        assert_eq!(places.find("listener[0].tls.key_file").map(|p| p.line), Some(7));
        assert_eq!(places.find("listener[1].tls"), None);
    }
}
