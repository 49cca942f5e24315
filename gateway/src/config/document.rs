//! A TOML text with its places: syntax, environment variables, and where each key stands.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::expand;
use super::problem::{LineIndex, Places, Problem};

/// The parsed text, with variables put in place.
pub(super) struct Document<'a> {
    pub(super) root: DeTable<'a>,
}

/// What all tables of one text share: its places, and the problems found so far.
pub(super) struct Context<'a> {
    base: &'a Path,
    lines: LineIndex<'a>,
    problems: RefCell<Vec<Problem>>,
    /// Starts of values that are already blamed: whatever else is wrong with them is a consequence.
    blamed: RefCell<HashSet<usize>>,
    places: Places,
    /// Keys that were asked for, and whether they were there.
    #[cfg(test)]
    pub(super) asked: RefCell<Vec<super::table::Asked>>,
}

impl<'a> Context<'a> {
    /// Parses a text; syntax errors become problems, and then there is no document.
    pub(super) fn parse(
        text: &'a str,
        base: &'a Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> (Self, Option<Document<'a>>) {
        let mut context = Self {
            base,
            lines: LineIndex::new(text),
            problems: RefCell::default(),
            blamed: RefCell::default(),
            places: Places::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or_default();
            context.problem(&span, "", format!("is not TOML: {}", one_line(error.message())));
        }
        if !errors.is_empty() {
            return (context, None);
        }
        let mut root = root.into_inner();
        context.expand_table(&mut root, "", env);
        (context, Some(Document { root }))
    }

    /// Puts variables in place and notes where each key stands.
    fn expand_table(&mut self, table: &mut DeTable<'a>, path: &str, env: &dyn Fn(&str) -> Option<String>) {
        for (key, value) in table.iter_mut() {
            let path = join(path, key.get_ref());
            self.places.keys.insert(path.clone(), self.lines.position(key.span().start));
            self.expand_value(value, &path, env);
        }
    }

    fn expand_value(&mut self, value: &mut Spanned<DeValue<'a>>, path: &str, env: &dyn Fn(&str) -> Option<String>) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains('$') => match expand(text, env) {
                Ok(expanded) => *text = expanded.into(),
                Err(error) => {
                    self.problem(&span, path, format!("{} {error}", quoted(path)));
                    self.blamed.borrow_mut().insert(span.start);
                }
            },
            DeValue::Array(values) => {
                for (index, value) in values.iter_mut().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.places.keys.insert(path.clone(), self.lines.position(value.span().start));
                    self.expand_value(value, &path, env);
                }
            }
            DeValue::Table(table) => self.expand_table(table, path, env),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    /// Notes a problem with what stands at `span`, unless that is blamed already.
    pub(super) fn problem(&self, span: &Range<usize>, key: &str, message: String) {
        if !self.blamed.borrow().contains(&span.start) {
            let position = Some(self.lines.position(span.start));
            self.problems.borrow_mut().push(Problem { file: PathBuf::new(), position, key: key.to_owned(), message });
        }
    }

    /// Notes a problem with a full key; `span` is around it.
    pub(super) fn problem_at(&self, key: &str, span: &Range<usize>, message: String) {
        if !self.blamed.borrow().contains(&span.start) {
            let position = self.places.find(key).unwrap_or_else(|| self.lines.position(span.start));
            let problem = Problem { file: PathBuf::new(), position: Some(position), key: key.to_owned(), message };
            self.problems.borrow_mut().push(problem);
        }
    }

    /// The full key of what stands at `span`, inside the table `path`.
    pub(super) fn key_at(&self, span: &Range<usize>, path: &str) -> String {
        let at = self.lines.position(span.start);
        let inside = self.places.keys.iter().filter(|(key, position)| key.starts_with(path) && **position <= at);
        inside.max_by_key(|(_, position)| **position).map_or_else(|| path.to_owned(), |(key, _)| key.clone())
    }

    /// Reads with problems kept to itself: they are consequences of one that is noted already.
    pub(super) fn silently<T>(&self, read: impl FnOnce() -> T) -> T {
        let count = self.problems.borrow().len();
        let value = read();
        self.problems.borrow_mut().truncate(count);
        value
    }

    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Every problem, in the order of the text, or the places of a text that has none.
    pub(super) fn finish(self, file: &Path) -> Result<Places, Vec<Problem>> {
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            return Ok(Places { file: file.to_path_buf(), ..self.places });
        }
        problems.sort_by_key(|problem| problem.position);
        for problem in &mut problems {
            problem.file = file.to_path_buf();
        }
        Err(problems)
    }
}

/// The key of an entry, bare where it can be.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let key = if bare { key.to_owned() } else { format!("\"{}\"", key.escape_debug()) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Input in backticks, escaped for a terminal.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

fn one_line(message: &str) -> String {
    message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
