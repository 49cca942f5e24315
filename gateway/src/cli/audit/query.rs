//! `sekisho audit query`: the records that answer a question, in order of time.

use std::io::Write;

use serde_json::Value;

use super::index::terms::{DEVICE, SITE};
use super::index::{self, IndexArgs, Question};
use super::print::{self, Format};
use super::scan::{Notes, Record, ScanArgs, scan};

/// `sekisho audit query`.
#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    #[command(flatten)]
    scan: ScanArgs,
    #[command(flatten)]
    question: Question,
    #[command(flatten)]
    index: IndexArgs,
    /// How to write the answer; JSON has the whole records
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const COLUMNS: &[&str] = &[
    "time", "lane", "sequence", "kind", "site", "device", "user", "action", "decision", "reason", "status", "patients",
    "target",
];

/// Writes the records. False if the log holds something bad; what is before it is written.
///
/// # Errors
/// If the log cannot be read, or `out` not be written.
pub(super) fn run(arguments: &QueryArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let (found, notes) = find(arguments)?;
    if arguments.format == Format::Json {
        for record in &found {
            writeln!(out, "{}", crate::cli::terminal::json(&record.value.to_string()))?;
        }
    } else {
        let rows: Vec<_> = found.iter().map(row).collect();
        print::rows(arguments.format, COLUMNS, &rows, out)?;
    }
    super::super::say(notes.text.trim_end());
    Ok(!notes.bad)
}

/// The records, in order of time, and what is to be said of the log.
///
/// # Errors
/// If the log cannot be read.
pub(super) fn find(arguments: &QueryArgs) -> anyhow::Result<(Vec<Record>, Notes)> {
    let mut found = Vec::new();
    let (scanned, question) = (&arguments.scan, &arguments.question);
    let notes = if arguments.index.no_index {
        scan(scanned, &mut |record| {
            if question.asks_for(&record) {
                found.push(record);
            }
        })?
    } else {
        let question = Question { from: scanned.from, to: scanned.to, ..question.clone() };
        index::ask(scanned, &arguments.index, &question, &mut |record| found.push(record))?
    };
    // Each lane has an order of its own; between lanes there is only time.
    found.sort_by_key(|record| record.unix_ns);
    Ok((found, notes))
}

fn row(record: &Record) -> Vec<Value> {
    let value = |key: &str| record.value.get(key).cloned().unwrap_or_default();
    let or =
        |paths: &[&str]| Some(record.first(paths)).filter(|text| !text.is_empty()).map_or(Value::Null, Value::from);
    vec![
        value("time"),
        record.lane.clone().into(),
        record.sequence.into(),
        value("kind"),
        or(SITE),
        or(DEVICE),
        value("user"),
        value("action"),
        value("decision"),
        value("reason"),
        value("status"),
        value("patients"),
        value("target"),
    ]
}
