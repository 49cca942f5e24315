//! `sekisho audit report`: who saw which patients.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde_json::Value;

use super::print::{self, Format};
use super::scan::{Record, ScanArgs, scan};

/// What to report.
#[derive(Debug, clap::Subcommand)]
pub enum ReportCommand {
    /// For each patient, how many accesses by whom; for each user, which patients in which login
    Patients(PatientsArgs),
}

/// `sekisho audit report patients`.
#[derive(Debug, clap::Args)]
pub struct PatientsArgs {
    #[command(flatten)]
    scan: ScanArgs,
    /// How to write the answer: two tables, the second behind an empty line; as JSON each row says which it is of
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Site, user and connection.
type Login = (String, String, String);

#[derive(Debug, Default)]
struct Patients {
    /// Accesses by patient, site and user.
    accesses: BTreeMap<(String, String, String), u64>,
    /// First access and patients of each login.
    logins: BTreeMap<Login, (String, BTreeSet<String>)>,
}

impl Patients {
    /// Counts what was let through: once per request, whatever came of it.
    fn take(&mut self, record: &Record) {
        if !matches!(record.text("kind"), "request" | "intent") || record.text("decision") != "permit" {
            return;
        }
        let (site, user) = (record.text("connection.site").to_owned(), record.text("user").to_owned());
        for patient in record.list("patients") {
            *self.accesses.entry((patient.to_owned(), site.clone(), user.clone())).or_default() += 1;
            let login = (site.clone(), user.clone(), record.text("connection.id").to_owned());
            let first = || (record.text("time").to_owned(), BTreeSet::new());
            self.logins.entry(login).or_insert_with(first).1.insert(patient.to_owned());
        }
    }
}

/// Writes the report. False if the log holds something bad; what is before it is counted.
///
/// # Errors
/// If the log cannot be read, or `out` not be written.
pub(super) fn run(command: &ReportCommand, out: &mut dyn Write) -> anyhow::Result<bool> {
    let ReportCommand::Patients(arguments) = command;
    let mut patients = Patients::default();
    let notes = scan(&arguments.scan, &mut |record| patients.take(&record))?;
    let accesses: Vec<Vec<Value>> = patients
        .accesses
        .into_iter()
        .map(|((patient, site, user), count)| vec![patient.into(), site.into(), user.into(), count.into()])
        .collect();
    let logins: Vec<Vec<Value>> = patients
        .logins
        .into_iter()
        .map(|((site, user, login), (first, patients))| {
            let patients: Vec<Value> = patients.into_iter().map(Value::from).collect();
            vec![site.into(), user.into(), login.into(), first.into(), patients.into()]
        })
        .collect();
    print::rows(arguments.format, &["patient", "site", "user", "accesses"], &accesses, out)?;
    if arguments.format != Format::Json {
        writeln!(out)?;
    }
    print::rows(arguments.format, &["site", "user", "login", "first_access", "patients"], &logins, out)?;
    super::super::say(notes.text.trim_end());
    Ok(!notes.bad)
}
