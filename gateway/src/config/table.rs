//! Reading one table: every key is asked for by name, and what nobody asked for is refused.
//!
//! A derived deserialiser stops at its first error; an operator wants all of them, each with its line. So the file is
//! read by hand here, and each key's name, kind, default and bounds stand in the one place that asks for it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Context, join, quoted};
use super::knob::Knob;
use super::problem::{list, suggestion};

/// One table of the file, or the empty table that an absent one stands for.
pub(super) struct Table<'d> {
    pub(super) context: &'d Context<'d>,
    /// Its full key; empty for the whole file.
    pub(super) path: String,
    /// Where its name stands.
    pub(super) span: Range<usize>,
    entries: Option<&'d DeTable<'d>>,
    known: RefCell<BTreeSet<&'static str>>,
}

/// A string and its place.
pub(super) struct Text<'d> {
    pub(super) text: &'d str,
    pub(super) key: String,
    pub(super) span: Range<usize>,
}

/// Whether a key must be there.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Required,
    Optional,
    Defaulted,
}

/// A key that was asked for.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    /// The key without the indices of arrays.
    pub(super) key: String,
    pub(super) need: Need,
    pub(super) present: bool,
}

impl<'d> Table<'d> {
    /// Reads the whole file.
    pub(super) fn read_root<T>(
        context: &'d Context<'d>,
        root: &'d DeTable<'d>,
        read: impl FnOnce(&Table<'d>) -> T,
    ) -> T {
        Self::new(context, String::new(), 0..0, Some(root)).read(read)
    }

    fn new(context: &'d Context<'d>, path: String, span: Range<usize>, entries: Option<&'d DeTable<'d>>) -> Self {
        Self { context, path, span, entries, known: RefCell::default() }
    }

    /// Reads, then refuses every key that was not asked for.
    pub(super) fn read<T>(self, read: impl FnOnce(&Table<'d>) -> T) -> T {
        let value = read(&self);
        let known = self.known.borrow();
        for (key, _) in self.entries.into_iter().flatten() {
            if !known.contains(key.get_ref().as_ref()) {
                let candidates: Vec<&str> = known.iter().copied().collect();
                let path = join(&self.path, key.get_ref());
                let message = format!("unknown key {}; {}", quoted(&path), suggestion(key.get_ref(), &candidates));
                self.context.problem(&key.span(), &path, message);
            }
        }
        value
    }

    fn find(&self, key: &'static str) -> Option<(Range<usize>, &'d Spanned<DeValue<'d>>)> {
        self.known.borrow_mut().insert(key);
        let (name, value) = self.entries?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((name.span(), value))
    }

    #[cfg(test)]
    fn asked(&self, key: &str, need: Need) {
        let path: String =
            self.key(key).split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
        let present = self.entries.is_some_and(|entries| entries.iter().any(|(name, _)| name.get_ref() == key));
        self.context.asked.borrow_mut().push(Asked { key: path, need, present });
    }

    /// The full name of a key of this table.
    pub(super) fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether the file has this table at all.
    pub(super) fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// Notes that something is wrong with a key of this table, or with the table where the key is absent.
    pub(super) fn problem(&self, key: &str, message: String) {
        let entry = self.entries.and_then(|entries| entries.iter().find(|(name, _)| name.get_ref() == key));
        let span = entry.map_or_else(|| self.span.clone(), |(_, value)| value.span());
        self.context.problem(&span, &self.key(key), message);
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'d>>, wanted: &str) {
        let path = self.key(key);
        let message = format!("{} is {}; it must be {wanted}", quoted(&path), kind(value.get_ref()));
        self.context.problem(&value.span(), &path, message);
    }

    fn missing(&self, key: &str) {
        let path = self.key(key);
        self.context.problem(&self.span, &path, format!("{} is missing", quoted(&path)));
    }

    /// Notes that something is wrong with a full key, however deep inside this table it stands.
    pub(super) fn problem_at(&self, key: &str, message: String) {
        self.context.problem_at(key, &self.span, message);
    }

    /// A table of which there is one; where it is absent, its keys are.
    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Table<'d>) -> T) -> T {
        let (span, entries) = match self.find(key) {
            None => (self.span.clone(), None),
            Some((span, value)) => {
                if value.get_ref().as_table().is_none() {
                    self.wrong_type(key, value, "a table");
                    // The keys of what is no table are not missed as well.
                    let empty = Self::new(self.context, self.key(key), span, None);
                    return self.context.silently(|| empty.read(read));
                }
                (span, value.get_ref().as_table())
            }
        };
        Self::new(self.context, self.key(key), span, entries).read(read)
    }

    /// A table that must not be there, and why.
    pub(super) fn no_section(&self, key: &'static str, why: &str) {
        if self.find(key).is_some() {
            self.problem(key, format!("{} is there and {why}", quoted(&self.key(key))));
        }
    }

    /// An array of tables with at least one element.
    pub(super) fn tables<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'d>) -> Option<T>) -> Vec<T> {
        self.elements(key).into_iter().filter_map(|element| element.read(&mut read)).collect()
    }

    /// The elements of an array of tables, whose keys the caller answers for.
    pub(super) fn elements(&self, key: &'static str) -> Vec<Table<'d>> {
        let Some((_, value)) = self.find(key) else {
            self.context.problem(&self.span, key, format!("there must be at least one `[[{key}]]`"));
            return Vec::new();
        };
        if value.get_ref().as_array().is_some_and(|values| values.is_empty()) {
            self.problem(key, format!("there must be at least one `[[{key}]]`"));
        }
        self.elements_of(key, value)
    }

    /// The elements of an array of tables that may be absent.
    pub(super) fn elements_optional(&self, key: &'static str) -> Option<Vec<Table<'d>>> {
        #[cfg(test)]
        self.asked(key, Need::Optional);
        let (_, value) = self.find(key)?;
        Some(self.elements_of(key, value))
    }

    fn elements_of(&self, key: &'static str, value: &'d Spanned<DeValue<'d>>) -> Vec<Table<'d>> {
        let Some(values) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("a list of tables, each begun by `[[{key}]]`"));
            return Vec::new();
        };
        let mut elements = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let path = format!("{}[{index}]", self.key(key));
            match value.get_ref().as_table() {
                Some(entries) => elements.push(Self::new(self.context, path, value.span(), Some(entries))),
                None => {
                    let message = format!("{} is {}; it must be a table", quoted(&path), kind(value.get_ref()));
                    self.context.problem(&value.span(), &path, message);
                }
            }
        }
        elements
    }

    /// The entries, for a reader of its own.
    pub(super) fn entries(&self) -> Option<&'d DeTable<'d>> {
        self.entries
    }

    /// A string that someone else reads, and judges where it is none.
    pub(super) fn peek(&self, key: &str) -> Option<Text<'d>> {
        let (_, value) = self.entries?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Text { text: value.get_ref().as_str()?, key: self.key(key), span: value.span() })
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.iter().any(|(name, _)| name.get_ref() == key))
    }

    fn string(&self, key: &'static str) -> Option<Text<'d>> {
        let (_, value) = self.find(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, "a string");
            return None;
        };
        Some(Text { text, key: self.key(key), span: value.span() })
    }

    /// A string that must be there.
    pub(super) fn text(&self, key: &'static str) -> Option<Text<'d>> {
        #[cfg(test)]
        self.asked(key, Need::Required);
        if self.find(key).is_none() {
            self.missing(key);
        }
        self.string(key)
    }

    /// A string that may be absent.
    pub(super) fn text_optional(&self, key: &'static str) -> Option<Text<'d>> {
        #[cfg(test)]
        self.asked(key, Need::Optional);
        self.string(key)
    }

    /// A string with a default.
    pub(super) fn text_or(&self, key: &'static str, default: &'static str) -> Text<'d> {
        #[cfg(test)]
        self.asked(key, Need::Defaulted);
        self.string(key).unwrap_or_else(|| Text { text: default, key: self.key(key), span: self.span.clone() })
    }

    /// A list of strings with at least one element.
    pub(super) fn texts(&self, key: &'static str) -> Vec<Text<'d>> {
        #[cfg(test)]
        self.asked(key, Need::Required);
        if self.find(key).is_none() {
            self.missing(key);
        }
        self.strings(key)
    }

    /// A list of strings that may be absent.
    pub(super) fn texts_optional(&self, key: &'static str) -> Vec<Text<'d>> {
        #[cfg(test)]
        self.asked(key, Need::Optional);
        self.strings(key)
    }

    fn strings(&self, key: &'static str) -> Vec<Text<'d>> {
        let Some((_, value)) = self.find(key) else { return Vec::new() };
        let Some(values) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return Vec::new();
        };
        if values.is_empty() {
            self.problem(key, format!("{} is empty; it must name at least one", quoted(&self.key(key))));
        }
        let mut texts = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let path = format!("{}[{index}]", self.key(key));
            match value.get_ref().as_str() {
                Some(text) => texts.push(Text { text, key: path, span: value.span() }),
                None => {
                    let message = format!("{} is {}; it must be a string", quoted(&path), kind(value.get_ref()));
                    self.context.problem(&value.span(), &path, message);
                }
            }
        }
        texts
    }

    /// A list of numbers that may be absent; a number that is none, or is negative, is noted.
    pub(super) fn numbers_optional(&self, key: &'static str) -> Option<Vec<u64>> {
        #[cfg(test)]
        self.asked(key, Need::Optional);
        let (_, value) = self.find(key)?;
        let Some(values) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of integers");
            return None;
        };
        let number = |value: &Spanned<DeValue<'d>>| {
            let integer = value.get_ref().as_integer()?;
            u64::from_str_radix(integer.as_str(), integer.radix()).ok()
        };
        let numbers: Option<Vec<u64>> = values.iter().map(number).collect();
        if numbers.is_none() {
            self.wrong_type(key, value, "a list of integers from 0 on");
        }
        numbers
    }

    /// A path that must be there, made absolute by the file's folder.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).and_then(|text| self.resolve(&text))
    }

    /// A path that may be absent.
    pub(super) fn path_optional(&self, key: &'static str) -> Option<PathBuf> {
        self.text_optional(key).and_then(|text| self.resolve(&text))
    }

    /// A list of paths that may be absent.
    pub(super) fn paths_optional(&self, key: &'static str) -> Vec<PathBuf> {
        self.texts_optional(key).iter().filter_map(|text| self.resolve(text)).collect()
    }

    /// A path with a default.
    pub(super) fn path_or(&self, key: &'static str, default: &'static str) -> Option<PathBuf> {
        self.resolve(&self.text_or(key, default))
    }

    fn resolve(&self, text: &Text<'_>) -> Option<PathBuf> {
        if text.text.is_empty() || text.text.contains('\0') {
            self.refuse(text, "it must name a file");
            return None;
        }
        Some(self.context.resolve(text.text))
    }

    /// A number within its knob's bounds.
    pub(super) fn number(&self, key: &'static str, knob: &Knob) -> u64 {
        #[cfg(test)]
        self.asked(key, Need::Defaulted);
        let Some((_, value)) = self.find(key) else { return knob.default };
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "an integer");
            return knob.default;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (knob.min..=knob.max).contains(&number) => number,
            _ => {
                let path = self.key(key);
                let (min, max, why) = (knob.min, knob.max, knob.why);
                let message = format!("{} is {integer}; it must be {min} to {max}: {why}", quoted(&path));
                self.context.problem(&value.span(), &path, message);
                knob.default
            }
        }
    }

    /// A list of ports, each once; `default` alone where the key is absent.
    pub(super) fn ports(&self, key: &'static str, default: u16, most: usize) -> Vec<u16> {
        #[cfg(test)]
        self.asked(key, Need::Defaulted);
        let Some((_, value)) = self.find(key) else { return vec![default] };
        let mut ports = Vec::new();
        for value in value.get_ref().as_array().into_iter().flatten() {
            let integer = value.get_ref().as_integer();
            let port = integer.and_then(|integer| u16::from_str_radix(integer.as_str(), integer.radix()).ok());
            ports.extend(port.filter(|port| *port > 0 && !ports.contains(port)));
        }
        let count = value.get_ref().as_array().map_or(0, |values| values.len());
        if ports.is_empty() || ports.len() != count || count > most {
            let message = format!("{} must list 1 to {most} ports, each once", quoted(&self.key(key)));
            self.problem(key, message);
        }
        ports
    }

    /// A duration in milliseconds.
    pub(super) fn millis(&self, key: &'static str, knob: &Knob) -> Duration {
        Duration::from_millis(self.number(key, knob))
    }

    /// A duration in seconds.
    pub(super) fn seconds(&self, key: &'static str, knob: &Knob) -> Duration {
        Duration::from_secs(self.number(key, knob))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        #[cfg(test)]
        self.asked(key, Need::Defaulted);
        let Some((_, value)) = self.find(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "`true` or `false`");
            default
        })
    }

    /// `true`, or absent.
    pub(super) fn flag(&self, key: &'static str) -> bool {
        #[cfg(test)]
        self.asked(key, Need::Optional);
        let Some((_, value)) = self.find(key) else { return false };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "`true` or `false`");
            false
        })
    }

    /// One of a few words; the default is given apart.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        #[cfg(test)]
        self.asked(key, Need::Defaulted);
        let Some(text) = self.string(key) else { return default };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.text) {
            return *value;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.refuse(&text, &format!("it must be {}", list(&words, "or")));
        default
    }

    /// Notes that a string is not what it must be.
    pub(super) fn refuse(&self, text: &Text<'_>, why: &str) {
        let message = format!("{} is {}; {why}", quoted(&text.key), quoted(text.text));
        self.context.problem(&text.span, &text.key, message);
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
