//! CSV (RFC 4180) that a spreadsheet may open.
//!
//! No cell runs as a formula: every cell is quoted; one whose first character, or first behind a quote or spaces, is
//! `=`, `+`, `-` or `@` (full-width forms too, which East Asian input turns into them) gets an apostrophe in front, and
//! so does one that begins with an apostrophe, so that it can be had back. Control characters are escaped as everywhere
//! ([`crate::text`]), and so is `;`: where that is the separator, a cell could otherwise begin in the middle of another.

use crate::event::Event;

/// The names of the columns.
pub const COLUMNS: &[&str] = &[
    "time",
    "log",
    "sequence",
    "kind",
    "event",
    "action",
    "outcome",
    "outcome_text",
    "node",
    "site",
    "device",
    "address",
    "user",
    "roles",
    "patients",
    "request",
    "method",
    "target",
    "backend",
    "details",
];

/// The first line, with its end.
#[must_use]
pub fn head() -> String {
    line(COLUMNS.iter().map(ToString::to_string))
}

/// The line of an event, with its end.
#[must_use]
pub fn row(event: &Event) -> String {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let client = event.client.as_ref();
    let user = event.user.as_ref();
    let target = event.target.as_ref();
    let address = client.and_then(|client| client.address.clone()).unwrap_or_default();
    // Where no device is known, the name is the address.
    let device = client.map(|client| client.name.clone()).filter(|name| *name != address);
    let details: Vec<_> = event.details.iter().map(|(path, value)| format!("{path}={value}")).collect();
    line(
        [
            event.time.clone(),
            event.place.origin.clone(),
            event.place.sequence.to_string(),
            event.kind.label().to_owned(),
            event.id.meaning.to_owned(),
            event.action.letter().to_owned(),
            event.outcome.digits().to_owned(),
            optional(&event.outcome_text),
            optional(&event.node),
            optional(&event.site),
            device.unwrap_or_default(),
            address,
            user.map(|user| user.name.clone()).unwrap_or_default(),
            user.map(|user| user.roles.join(" ")).unwrap_or_default(),
            event.patients.join(" "),
            optional(&event.request),
            target.map(|target| target.method.clone()).unwrap_or_default(),
            target.map(|target| target.shown.clone()).unwrap_or_default(),
            optional(&event.backend),
            details.join(" | "),
        ]
        .into_iter(),
    )
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|text| cell(&text)).collect();
    format!("{}\r\n", cells.join(","))
}

fn cell(text: &str) -> String {
    let text = text.replace(';', r"\u003b");
    let first = text.trim_start_matches([' ', '"', '\u{3000}', '\u{a0}']).chars().next();
    let is_formula =
        matches!(first, Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '\'')) || text.starts_with('\'');
    let guard = if is_formula { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, cell_of) in [
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("＝1", "\"'＝1\""),
            ("\"=1", "\"'\"\"=1\""),
            (" =1", "\"' =1\""),
            ("'=1", "\"''=1\""),
            ("a,b\"c", "\"a,b\"\"c\""),
            ("a;=1", r#""a\u003b=1""#),
            ("", "\"\""),
        ] {
            assert_eq!(cell(text), cell_of);
        }
    }

    proptest! {
        #[test]
        fn a_row_has_its_cells_whatever_is_in_them(cells in proptest::collection::vec(any::<String>(), 1..6)) {
            let shown: Vec<_> = cells.iter().map(|cell| crate::text::shown(cell)).collect();
            let line = line(shown.iter().cloned());
            let body = line.strip_suffix("\r\n").unwrap();
            prop_assert!(!body.contains(['\r', '\n', '\t', ';']));
            let read = body.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            // A quote inside is always doubled, so that `","` is a boundary wherever the quotes before are even.
            let read: Vec<String> = split(read);
            prop_assert_eq!(read.len(), shown.len());
            for (read, shown) in read.iter().zip(&shown) {
                let back = read.strip_prefix('\'').unwrap_or(read).replace(r"\u003b", ";");
                prop_assert_eq!(&back, &shown.replace(r"\u003b", ";"));
                let first = read.trim_start_matches([' ', '"']).chars().next();
                prop_assert!(!matches!(first, Some('=' | '+' | '-' | '@')));
            }
        }
    }

    fn split(body: &str) -> Vec<String> {
        let (mut cells, mut cell, mut characters) = (Vec::new(), String::new(), body.chars().peekable());
        while let Some(character) = characters.next() {
            match character {
                '"' if characters.peek() == Some(&'"') => {
                    characters.next();
                    cell.push('"');
                }
                '"' => {
                    assert_eq!((characters.next(), characters.next()), (Some(','), Some('"')));
                    cells.push(std::mem::take(&mut cell));
                }
                character => cell.push(character),
            }
        }
        cells.push(cell);
        cells
    }
}
