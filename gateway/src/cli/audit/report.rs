//! `sekisho audit report`: who saw which patients, and who still uses which protocols.

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
    /// Which protocols each site's devices use, and when they did last: who still needs an old one (R21)
    Protocols(ProtocolsArgs),
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

/// `sekisho audit report protocols`.
#[derive(Debug, clap::Args)]
pub struct ProtocolsArgs {
    #[command(flatten)]
    scan: ScanArgs,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only what is older than TLS 1.3, and what came without TLS inside a tunnel
    #[arg(long)]
    old: bool,
}

/// Site, device, listener, transport, TLS version, suite, key exchange and application protocol.
type Spoken = [String; 8];

/// How often something was used, by the devices that used it, and when first and last.
#[derive(Debug, Default)]
struct Protocols(BTreeMap<Spoken, (u64, String, String)>);

impl Protocols {
    fn take(&mut self, record: &Record, old_only: bool) {
        if record.text("kind") != "connection-opened" {
            return;
        }
        let of = |key: &str| record.text(&format!("connection.{key}")).to_owned();
        let device = if of("device").is_empty() { of("user") } else { of("device") };
        let mut spoken = [
            of("site"),
            device,
            of("listener"),
            of("transport"),
            of("tls.version"),
            of("tls.suite"),
            of("tls.group"),
            of("tls.alpn"),
        ];
        // What is not there is told as well: an empty field would look like a fault.
        for part in spoken.iter_mut().filter(|part| part.is_empty()) {
            "-".clone_into(part);
        }
        let [.., version, _, _, _] = &spoken;
        if old_only && version == "1.3" {
            return;
        }
        let time = record.text("time");
        let (count, first, last) = self.0.entry(spoken).or_insert_with(|| (0, time.to_owned(), time.to_owned()));
        *count += 1;
        if time < first.as_str() {
            time.clone_into(first);
        }
        if time > last.as_str() {
            time.clone_into(last);
        }
    }

    fn rows(self) -> Vec<Vec<Value>> {
        let row = |(spoken, (count, first, last)): (Spoken, (u64, String, String))| {
            let told = spoken.into_iter().map(Value::from);
            told.chain([count.into(), first.into(), last.into()]).collect()
        };
        self.0.into_iter().map(row).collect()
    }
}

/// The columns of [`Protocols::rows`].
const SPOKEN: [&str; 11] = [
    "site",
    "device",
    "listener",
    "transport",
    "tls",
    "suite",
    "key_exchange",
    "application",
    "connections",
    "first",
    "last",
];

fn protocols(arguments: &ProtocolsArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut protocols = Protocols::default();
    let notes = scan(&arguments.scan, &mut |record| protocols.take(&record, arguments.old))?;
    print::rows(arguments.format, &SPOKEN, &protocols.rows(), out)?;
    super::super::say(notes.text.trim_end());
    Ok(!notes.bad)
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
    let arguments = match command {
        ReportCommand::Patients(arguments) => arguments,
        ReportCommand::Protocols(arguments) => return protocols(arguments, out),
    };
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
