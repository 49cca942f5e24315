//! `sekisho audit query`: the records that answer a question, in order of time.

use std::io::Write;

use serde_json::Value;

use super::print::{self, Format};
use super::scan::{Record, ScanArgs, scan};

/// `sekisho audit query`.
#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    #[command(flatten)]
    scan: ScanArgs,
    #[command(flatten)]
    filter: Filter,
    /// How to write the answer; JSON has the whole records
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is asked for. Each condition that is given must hold.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Records of this site
    #[arg(long)]
    site: Option<String>,
    /// Of this user
    #[arg(long)]
    user: Option<String>,
    /// From this device
    #[arg(long)]
    device: Option<String>,
    /// About this patient
    #[arg(long)]
    patient: Option<String>,
    /// Of this action
    #[arg(long)]
    action: Option<String>,
    /// With this decision
    #[arg(long, value_name = "permit|deny")]
    decision: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
}

const COLUMNS: &[&str] = &[
    "time", "lane", "sequence", "kind", "site", "device", "user", "action", "decision", "reason", "status", "patients",
    "target",
];

impl Filter {
    /// Whether the record is one of those.
    pub(super) fn asks_for(&self, record: &Record) -> bool {
        let is =
            |asked: &Option<String>, paths: &[&str]| asked.as_ref().is_none_or(|asked| record.first(paths) == asked);
        is(&self.site, &["connection.site", "site"])
            && is(&self.user, &["user"])
            && is(&self.device, &["connection.device", "device"])
            && is(&self.action, &["action"])
            && is(&self.decision, &["decision"])
            && is(&self.kind, &["kind"])
            && self.patient.as_ref().is_none_or(|asked| record.list("patients").any(|patient| patient == asked))
    }

    /// Whether every record is asked for, opened or not.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { site, user, device, patient, action, decision, kind } = self;
        site.is_none()
            && user.is_none()
            && device.is_none()
            && patient.is_none()
            && action.is_none()
            && decision.is_none()
            && kind.is_none()
    }
}

/// Writes the records. False if the log holds something bad; what is before it is written.
///
/// # Errors
/// If the log cannot be read, or `out` not be written.
pub(super) fn run(arguments: &QueryArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut found = Vec::new();
    let notes = scan(&arguments.scan, &mut |record| {
        if arguments.filter.asks_for(&record) {
            found.push(record);
        }
    })?;
    // Each lane has an order of its own; between lanes there is only time.
    found.sort_by_key(|record| record.unix_ns);
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

fn row(record: &Record) -> Vec<Value> {
    let value = |key: &str| record.value.get(key).cloned().unwrap_or_default();
    let or =
        |paths: &[&str]| Some(record.first(paths)).filter(|text| !text.is_empty()).map_or(Value::Null, Value::from);
    vec![
        value("time"),
        record.lane.clone().into(),
        record.sequence.into(),
        value("kind"),
        or(&["connection.site", "site"]),
        or(&["connection.device", "device"]),
        value("user"),
        value("action"),
        value("decision"),
        value("reason"),
        value("status"),
        value("patients"),
        value("target"),
    ]
}
