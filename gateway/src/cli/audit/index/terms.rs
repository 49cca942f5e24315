//! What records are found by.

use aws_lc_rs::digest::{SHA256, digest};
use gateway_audit::header::KeyId;

use super::super::scan::Record;

/// First byte of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Field {
    /// What opened records say; goes with the data key.
    Site = 1,
    User = 2,
    Device = 3,
    Patient = 4,
    Action = 5,
    Decision = 6,
    Kind = 7,
    /// The minute that a record is of, by its clear header.
    Minute = 16,
    /// The data key that it is sealed under.
    Key = 17,
    /// The number of its entries, where it is not one.
    Parts = 18,
    /// Records that do not open though their key does, and what is no sealed record at all.
    Unreadable = 19,
}

/// The longest value that stands as it is; of longer ones their hash, which only who has them all can tell.
const MAX_VALUE: usize = 200;
const HASHED: u8 = 0xff;
const NANOS_PER_MINUTE: i64 = 60_000_000_000;

/// Whether a term says what only the data key tells, and goes with that.
pub(super) fn is_content(term: &[u8]) -> bool {
    term.first().is_some_and(|field| *field < Field::Minute as u8) || term == unreadable(false)
}

/// A term of a field; none for an empty value, which is that of records without.
pub(super) fn term(field: Field, value: &str) -> Option<Vec<u8>> {
    if value.is_empty() {
        return None;
    }
    let mut term = vec![field as u8];
    if value.len() > MAX_VALUE {
        // A value never begins so: it is UTF-8.
        term.push(HASHED);
        term.extend_from_slice(digest(&SHA256, value.as_bytes()).as_ref());
    } else {
        term.extend_from_slice(value.as_bytes());
    }
    Some(term)
}

/// The term of a minute.
pub(super) fn minute(unix_ns: i64) -> [u8; 9] {
    minute_term(unix_ns.div_euclid(NANOS_PER_MINUTE))
}

/// The term of the minute behind that of a time.
pub(super) fn next_minute(unix_ns: i64) -> [u8; 9] {
    minute_term(unix_ns.div_euclid(NANOS_PER_MINUTE).saturating_add(1))
}

fn minute_term(minute: i64) -> [u8; 9] {
    let mut term = [Field::Minute as u8; 9];
    // The sign is turned, so that terms sort as times.
    let sorted = (minute ^ i64::MIN).to_be_bytes();
    term.iter_mut().skip(1).zip(sorted).for_each(|(place, byte)| *place = byte);
    term
}

/// The term of a data key.
pub(super) fn key(id: KeyId) -> Vec<u8> {
    let mut term = vec![Field::Key as u8];
    term.extend_from_slice(&id.0);
    term
}

/// The term of records with so many parts.
pub(super) fn parts(parts: u16) -> Vec<u8> {
    let mut term = vec![Field::Parts as u8];
    term.extend_from_slice(&parts.to_be_bytes());
    term
}

/// The number of parts in such a term.
pub(super) fn parts_of(term: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(term.strip_prefix(&[Field::Parts as u8])?.try_into().ok()?))
}

/// The term of records that do not open, and, if `timeless`, have no time either.
pub(super) fn unreadable(timeless: bool) -> Vec<u8> {
    vec![Field::Unreadable as u8, u8::from(timeless)]
}

/// The site that a record is about.
pub(in super::super) const SITE: &[&str] = &["connection.site", "site"];
/// The device that it is from.
pub(in super::super) const DEVICE: &[&str] = &["connection.device", "device"];

/// The terms of an opened record.
pub(super) fn of(record: &Record) -> impl Iterator<Item = Vec<u8>> {
    let one = [
        (Field::Site, record.first(SITE)),
        (Field::User, record.first(&["user"])),
        (Field::Device, record.first(DEVICE)),
        (Field::Action, record.first(&["action"])),
        (Field::Decision, record.first(&["decision"])),
        (Field::Kind, record.first(&["kind"])),
    ];
    let patients = record.list("patients").map(|patient| (Field::Patient, patient));
    one.into_iter().chain(patients).filter_map(|(field, value)| term(field, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_sort_as_times_and_long_values_are_hashed() {
        let times = [i64::MIN, -60_000_000_001, -1, 0, 59_999_999_999, 60_000_000_000, i64::MAX];
        assert!(times.map(minute).is_sorted());
        assert_eq!(minute(0), minute(59_999_999_999));
        assert_eq!(next_minute(0), minute(60_000_000_000));
        assert_eq!(term(Field::User, ""), None);
        let long = "x".repeat(MAX_VALUE + 1);
        assert_eq!(term(Field::User, &long).unwrap().len(), 34);
        assert_eq!(term(Field::User, "dr"), Some(b"\x02dr".to_vec()));
        assert_eq!(parts_of(&parts(3)), Some(3));
        assert!(is_content(&term(Field::Kind, "x").unwrap()) && !is_content(&minute(0)));
    }
}
