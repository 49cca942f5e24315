//! What is wrong with a policy set, and where.

use std::fmt;

use miette::Diagnostic;

use super::PolicySource;

/// One thing wrong with a policy set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 where the file as a whole is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
        }
    }
}

/// Why a policy set is refused: every problem of every file, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// In order of file, line and column.
    pub problems: Vec<Problem>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// Line and column, from 1, of a byte of a text.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
    (before.matches('\n').count() + 1, column)
}

pub(super) fn problem_at(source: &PolicySource, offset: usize, message: String) -> Problem {
    let (line, column) = position(&source.text, offset);
    Problem { file: source.file.clone(), line, column, message }
}

/// Cedar's message with its label and its help, at the first byte it points to.
pub(super) fn problem_of(source: &PolicySource, fallback: usize, diagnostic: &dyn Diagnostic) -> Problem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let mut message = diagnostic.to_string();
    let more =
        [label.as_ref().and_then(|label| label.label()).map(str::to_owned), diagnostic.help().map(|h| h.to_string())];
    for more in more.into_iter().flatten() {
        message.push_str("; ");
        message.push_str(&more);
    }
    problem_at(source, label.map_or(fallback, |label| label.offset()), message)
}
