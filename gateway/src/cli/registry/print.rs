//! How entries are shown: a table for people, JSON for programs, and nothing that steers a terminal in either.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::terminal;
use crate::cli::terminal::text as safe;
use crate::store::{Device, EntryName, Kind, Role, Site, User};

/// An entry that can be shown. The display name comes last, since its width on a terminal depends on the script.
pub(super) trait Show: Serialize {
    const KIND: Kind;
    const COLUMNS: &'static [&'static str];
    fn cells(&self) -> Vec<String>;
    fn title(&self) -> String;
}

impl Show for Site {
    const KIND: Kind = Kind::Site;
    const COLUMNS: &'static [&'static str] =
        &["SITE", "STATUS", "INSIDE", "FACILITIES", "VERSION", "CHANGED", "DISPLAY NAME"];
    fn cells(&self) -> Vec<String> {
        let fixed = [self.name.to_string(), self.status.to_string(), joined(&self.inside), joined(&self.facilities)];
        let rest = [self.version.to_string(), self.changed_at.clone(), self.display_name.to_string()];
        [fixed.as_slice(), &rest].concat()
    }
    fn title(&self) -> String {
        self.name.to_string()
    }
}

impl Show for Role {
    const KIND: Kind = Kind::Role;
    const COLUMNS: &'static [&'static str] = &["ROLE", "STATUS", "VERSION", "CHANGED", "DISPLAY NAME"];
    fn cells(&self) -> Vec<String> {
        let fixed = [self.name.to_string(), self.status.to_string(), self.version.to_string()];
        [fixed.as_slice(), &[self.changed_at.clone(), self.display_name.to_string()]].concat()
    }
    fn title(&self) -> String {
        self.name.to_string()
    }
}

impl Show for User {
    const KIND: Kind = Kind::User;
    const COLUMNS: &'static [&'static str] = &["USER", "STATUS", "ROLES", "VERSION", "CHANGED", "DISPLAY NAME"];
    fn cells(&self) -> Vec<String> {
        let fixed = [self.id().to_string(), self.status.to_string(), joined(&self.roles), self.version.to_string()];
        [fixed.as_slice(), &[self.changed_at.clone(), self.display_name.to_string()]].concat()
    }
    fn title(&self) -> String {
        self.id().to_string()
    }
}

impl Show for Device {
    const KIND: Kind = Kind::Device;
    const COLUMNS: &'static [&'static str] =
        &["DEVICE", "STATUS", "USER", "ROLES", "AE TITLES", "VERSION", "CHANGED", "DISPLAY NAME"];
    fn cells(&self) -> Vec<String> {
        let user = self.user.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let fixed =
            [self.id().to_string(), self.status.to_string(), user, joined(&self.roles), joined(&self.ae_titles)];
        let rest = [self.version.to_string(), self.changed_at.clone(), self.display_name.to_string()];
        [fixed.as_slice(), &rest].concat()
    }
    fn title(&self) -> String {
        self.id().to_string()
    }
}

/// A table, or `{"sites": […]}` and the like.
pub(super) fn list<T: Show>(entries: &[T], as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        let key = format!("{}s", T::KIND);
        return json(&serde_json::json!({ key: entries }), out);
    }
    let header = T::COLUMNS.iter().map(|column| (*column).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(entries.iter().map(|entry| entry.cells().iter().map(|c| safe(c)).collect()))
        .collect();
    let widths: Vec<usize> = (0..T::COLUMNS.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A line for each field, or the entry itself.
pub(super) fn one<T: Show>(entry: &T, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        return json(entry, out);
    }
    for (column, cell) in T::COLUMNS.iter().zip(entry.cells()) {
        writeln!(out, "{}", format!("{:<14}{}", format!("{}:", column.to_lowercase()), safe(&cell)).trim_end())?;
    }
    Ok(())
}

/// A sentence such as ``site `x` added``, or the entry as it stands.
pub(super) fn done<T: Show>(entry: &T, what: &str, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json { json(entry, out) } else { writeln!(out, "{} `{}` {what}", T::KIND, entry.title()) }
}

/// A line for each entry, or `{"removed": [{"kind": …, "name": …}]}`.
pub(super) fn removed(entries: &[EntryName], as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        let entries: Vec<_> =
            entries.iter().map(|e| serde_json::json!({ "kind": e.kind(), "name": e.to_string() })).collect();
        return json(&serde_json::json!({ "removed": entries }), out);
    }
    entries.iter().try_for_each(|entry| writeln!(out, "{} `{entry}` removed", entry.kind()))
}

pub(super) fn json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    // Line breaks stand only between tokens.
    for line in text.lines() {
        writeln!(out, "{}", terminal::json(line))?;
    }
    Ok(())
}

fn joined<T: ToString>(names: &[T]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.iter().map(T::to_string).collect::<Vec<_>>().join(",") }
}
