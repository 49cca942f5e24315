//! `sekisho audit export`: records in a form that others read, as they come: lane by lane, each in its order.

use std::io::{self, Write};

use gateway_audit::header::Pseudonym;
use gateway_export::{Event, Place, atna, csv, ecs, fhir};

use super::index::Question;
use super::scan::{ScanArgs, Sealed, scan_all};
use crate::cli::terminal;

/// `sekisho audit export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    scan: ScanArgs,
    #[command(flatten)]
    filter: Question,
    /// The form
    #[arg(long, value_enum)]
    format: Format,
}

/// The forms. What does not open with the key is in the output too, as far as its clear header says, unless something
/// was asked for that only opened records tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// IHE ATNA audit messages (DICOM PS3.15, A.5), one XML document a line
    Atna,
    /// FHIR R4 AuditEvent (IHE BALP), one resource a line, one for each patient
    Fhir,
    /// Elastic Common Schema, one JSON document a line
    Ecs,
    /// RFC 4180, for a spreadsheet: no cell is taken for a formula
    Csv,
}

/// The longest ATNA message, bytes: a file has no limit that a receiver sets.
const MAX_MESSAGE: usize = 1 << 20;

impl Format {
    fn head(self) -> String {
        if self == Self::Csv { csv::head() } else { String::new() }
    }

    /// The lines of an event, with their ends.
    fn lines(self, event: &Event) -> String {
        let json = |value: &serde_json::Value| format!("{}\n", terminal::json(&value.to_string()));
        match self {
            Self::Atna => atna::messages(event, MAX_MESSAGE).into_iter().map(|message| message + "\n").collect(),
            Self::Fhir => fhir::resources(event).iter().map(json).collect(),
            Self::Ecs => json(&ecs::document(event)),
            Self::Csv => csv::row(event),
        }
    }
}

/// Writes to `out` until that fails, and keeps why.
struct Output<'a> {
    out: &'a mut dyn Write,
    failed: Option<io::Error>,
}

impl Output<'_> {
    fn put(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(text.as_bytes()).err();
        }
    }
}

/// Writes the records. False if the log holds something bad, or a record that was asked for does not open; what is good
/// is written.
///
/// # Errors
/// If the log cannot be read, or `out` not be written.
pub(super) fn run(arguments: &ExportArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let format = arguments.format;
    let output = std::cell::RefCell::new(Output { out, failed: None });
    output.borrow_mut().put(&format.head());
    let (mut strange, mut unopened) = (0_u64, 0_u64);
    let notes = scan_all(
        &arguments.scan,
        &mut |record| {
            if arguments.filter.asks_for(&record) {
                match gateway_export::Record::parse(record.value.to_string().as_bytes()) {
                    Ok(read) => output.borrow_mut().put(&format.lines(&Event::of(&record.origin, &read))),
                    Err(_) => strange += 1,
                }
            }
        },
        &mut |sealed| {
            unopened += 1;
            if let Some(event) = event_of(sealed).filter(|_| arguments.filter.is_empty()) {
                output.borrow_mut().put(&format.lines(&event));
            }
        },
    )?;
    match output.into_inner().failed {
        // Whoever reads a pipe may have seen enough.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
        Some(error) => return Err(error.into()),
        None => {}
    }
    let mut text = notes.text;
    if strange > 0 {
        text.push_str(&format!("BAD: {strange} records opened and are none that this program knows\n"));
    }
    super::super::say(text.trim_end());
    Ok(!notes.bad && strange == 0 && unopened == 0)
}

fn event_of(sealed: &Sealed<'_>) -> Option<Event> {
    let header = sealed.header?;
    let place = Place { origin: sealed.origin.to_owned(), sequence: sealed.sequence };
    let pseudonym = (header.site != Pseudonym::NONE).then(|| header.site.to_string());
    Some(Event::sealed(place, header.kind, header.unix_ns, pseudonym, sealed.why))
}
