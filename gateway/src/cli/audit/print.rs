//! Rows as a table, as JSON lines, or as CSV.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::terminal;

/// How rows are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns, for a terminal
    #[default]
    Table,
    /// One JSON object a line
    Json,
    /// RFC 4180, for a spreadsheet: what one would take for a formula begins with an apostrophe
    Csv,
}

/// Writes rows of named columns.
///
/// # Errors
/// Those of `out`.
pub(super) fn rows(format: Format, names: &[&str], rows: &[Vec<Value>], out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Table => table(names, rows, out),
        Format::Json => rows.iter().try_for_each(|row| {
            let object: serde_json::Map<_, _> = names
                .iter()
                .map(ToString::to_string)
                .zip(row.iter().cloned())
                .filter(|(_, value)| !value.is_null())
                .collect();
            writeln!(out, "{}", terminal::json(&Value::from(object).to_string()))
        }),
        Format::Csv => {
            write!(out, "{}\r\n", names.join(","))?;
            rows.iter().try_for_each(|row| {
                write!(out, "{}\r\n", row.iter().map(|value| field(&plain(value))).collect::<Vec<_>>().join(","))
            })
        }
    }
}

fn table(names: &[&str], rows: &[Vec<Value>], out: &mut dyn Write) -> io::Result<()> {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|value| terminal::text(&plain(value))).collect()).collect();
    let width = |column: usize| {
        let longest = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(names.get(column).map_or(0, |name| name.len()))
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let heads = names.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&heads).chain(&cells) {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}

/// Text as it is, nothing for nothing, lists with spaces between, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(format: Format) -> String {
        let mut out = Vec::new();
        let all = [
            vec![json!("a\u{1b}[2J"), json!(12)],
            vec![json!("=1+\"x\",y"), Value::Null],
            vec![json!(["p", "q"]), json!(3)],
        ];
        rows(format, &["name", "n"], &all, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hostile_text_steers_neither_terminal_nor_spreadsheet() {
        assert_eq!(written(Format::Csv), "name,n\r\na\u{1b}[2J,12\r\n\"'=1+\"\"x\"\",y\",\r\np q,3\r\n");
        let table = written(Format::Table);
        assert!(!table.contains('\u{1b}') && table.lines().count() == 4, "{table}");
        let json = written(Format::Json);
        assert!(!json.contains('\u{1b}') && json.contains(r#""name":"a\u001b[2J""#), "{json}");
        assert_eq!(json.lines().nth(1), Some(r#"{"name":"=1+\"x\",y"}"#));
    }
}
