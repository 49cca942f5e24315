//! Files of wrapped data keys: text, one for each key.
//!
//! ```text
//! sekisho audit data key v1
//! origin <name of the log>
//! site <name>                      (absent where there is none)
//! pseudonym <16 hexadecimal digits>
//! class <name>                     (absent where there is none)
//! period <year-month-day>
//! days <how many the period has>
//! key <32 hexadecimal digits>
//! first <sequence number of the first record under it>
//! reviewer <name> <base64 of enc> <base64 of ct>
//! reviewer …
//! ```
//!
//! Whoever changes a file makes that it does not open, and no more: everything that matters is bound to the wrapped key
//! ([`crate::wrap`]).

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::checkpoint::decimal;
use crate::header::{KeyId, Pseudonym};
use crate::reviewer::private::ReviewerKey;
use crate::reviewer::{Reviewer, is_name};
use crate::seal::{MAX_ORIGIN, Secret};
use crate::time;
use crate::wrap::{self, Binding, WrapError, Wrapped};

/// The longest file that is read, bytes.
pub const MAX_FILE: usize = 64 * 1024;
/// The most reviewers of one file, those included for whom it was wrapped later.
pub const MAX_WRAPPED: usize = 128;

/// Nanoseconds of a day.
pub const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// Why a file of a data key is refused, or does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Longer than [`MAX_FILE`] or not UTF-8.
    #[error("the data key file is not a text of up to {MAX_FILE} bytes")]
    Text,
    /// A line that is not what belongs there.
    #[error("line {0} of the data key file is not what belongs there")]
    Line(usize),
    /// Wrapped to nobody.
    #[error("the data key file has no reviewer")]
    Nobody,
    /// Wrapped to one reviewer twice.
    #[error("the data key file names the reviewer `{0}` twice")]
    Duplicate(String),
    /// It cannot be written: a name or number that cannot stand in it.
    #[error("the data key file cannot be written: {0}")]
    Content(&'static str),
    /// The key is not wrapped to this reviewer.
    #[error("the data key is not wrapped to the reviewer `{0}`")]
    Reviewer(String),
    /// It is not wrapped, or does not unwrap.
    #[error(transparent)]
    Wrap(#[from] WrapError),
}

/// A data key's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Name of the log.
    pub origin: String,
    /// Name of the site.
    pub site: Option<String>,
    /// Its pseudonym; [`Pseudonym::NONE`] exactly where there is no site.
    pub pseudonym: Pseudonym,
    /// The class of information.
    pub class: Option<String>,
    /// The period, by its first day; see [`period`].
    pub period: String,
    /// How many days the period has: all records under the key are of these.
    pub days: NonZeroU32,
    /// The data key's id.
    pub key: KeyId,
    /// Sequence number of the first record under it.
    pub first: u64,
    /// The key, wrapped to each reviewer by name.
    pub wrapped: Vec<(String, Wrapped)>,
}

impl KeyFile {
    /// What the key is bound to for this reviewer.
    #[must_use]
    pub fn binding<'a>(&'a self, reviewer: &'a str) -> Binding<'a> {
        Binding {
            origin: &self.origin,
            site: self.site.as_deref().unwrap_or_default(),
            class: self.class.as_deref().unwrap_or_default(),
            period: &self.period,
            reviewer,
            key: self.key,
        }
    }

    /// Wraps the key to a reviewer as well.
    ///
    /// # Errors
    /// [`KeyFileError::Duplicate`] if it is, [`KeyFileError::Wrap`] if that fails.
    pub fn wrap_to(&mut self, secret: &Secret, reviewer: &Reviewer) -> Result<(), KeyFileError> {
        let name = reviewer.name().to_owned();
        if self.wrapped.iter().any(|(other, _)| *other == name) {
            return Err(KeyFileError::Duplicate(name));
        }
        let wrapped = wrap::wrap(secret, reviewer.wrapping(), &self.binding(&name))?;
        self.wrapped.push((name, wrapped));
        Ok(())
    }

    /// Adds what a reviewer has wrapped to another.
    ///
    /// # Errors
    /// [`KeyFileError::Duplicate`] if it is wrapped to that one already, [`KeyFileError::Content`] if there are too many.
    pub fn add(&mut self, name: &str, wrapped: Wrapped) -> Result<(), KeyFileError> {
        if self.wrapped.iter().any(|(other, _)| other == name) {
            return Err(KeyFileError::Duplicate(name.to_owned()));
        }
        if self.wrapped.len() >= MAX_WRAPPED {
            return Err(KeyFileError::Content("one more reviewer"));
        }
        self.wrapped.push((name.to_owned(), wrapped));
        Ok(())
    }

    /// The first moment behind the period, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn until_ns(&self) -> i64 {
        until_ns(&self.period, self.days)
    }

    /// The data key, for a reviewer.
    ///
    /// # Errors
    /// [`KeyFileError`] if the file has nothing for it, or what it has does not unwrap.
    pub fn open(&self, reviewer: &ReviewerKey) -> Result<Secret, KeyFileError> {
        let name = reviewer.public().name();
        let wrapped = self.wrapped.iter().find(|(other, _)| other == name);
        let (_, wrapped) = wrapped.ok_or_else(|| KeyFileError::Reviewer(name.to_owned()))?;
        Ok(wrap::unwrap(wrapped, reviewer.wrapping(), &self.binding(name))?)
    }

    /// Where the file lies in the key directory: `<pseudonym>/<period>/<key id>`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.pseudonym, self.period, self.key)
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`KeyFileError`] if it could not be read again.
    pub fn encode(&self) -> Result<String, KeyFileError> {
        let text = self.to_string();
        let again = Self::parse(text.as_bytes());
        match again {
            Ok(again) if again == *self => Ok(text),
            Ok(_) | Err(KeyFileError::Line(_)) => Err(KeyFileError::Content("a name, the period or a number")),
            Err(error) => Err(error),
        }
    }

    /// Reads a file strictly.
    ///
    /// # Errors
    /// [`KeyFileError`] if it is none.
    pub fn parse(file: &[u8]) -> Result<Self, KeyFileError> {
        let text = std::str::from_utf8(file).ok().filter(|text| text.len() <= MAX_FILE).ok_or(KeyFileError::Text)?;
        let mut lines = Lines::new(text);
        lines.take("sekisho audit data key ", |version| (version == "v1").then_some(()))?;
        let origin = lines.take("origin ", |origin| is_origin(origin).then(|| origin.to_owned()))?;
        let name = |name: &str| is_name(name).then(|| name.to_owned());
        let site = lines.optional("site ", name)?;
        let pseudonym = lines.take("pseudonym ", |text| {
            Pseudonym::parse(text).filter(|own| (*own == Pseudonym::NONE) == site.is_none())
        })?;
        let class = lines.optional("class ", name)?;
        let period = lines.take("period ", |text| is_period(text).then(|| text.to_owned()))?;
        let days = lines.take("days ", days)?;
        let key = lines.take("key ", KeyId::parse)?;
        let first = lines.take("first ", |text| decimal(text).filter(|first| *first > 0))?;
        let mut wrapped: Vec<(String, Wrapped)> = Vec::new();
        while !lines.rest.is_empty() {
            let (name, key) =
                lines.take("reviewer ", |text| read_wrapped(text).filter(|_| wrapped.len() < MAX_WRAPPED))?;
            if wrapped.iter().any(|(other, _)| other == name) {
                return Err(KeyFileError::Duplicate(name.to_owned()));
            }
            wrapped.push((name.to_owned(), key));
        }
        if wrapped.is_empty() {
            return Err(KeyFileError::Nobody);
        }
        Ok(Self { origin, site, pseudonym, class, period, days, key, first, wrapped })
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sekisho audit data key v1\norigin {}", self.origin)?;
        if let Some(site) = &self.site {
            writeln!(f, "site {site}")?;
        }
        writeln!(f, "pseudonym {}", self.pseudonym)?;
        if let Some(class) = &self.class {
            writeln!(f, "class {class}")?;
        }
        writeln!(f, "period {}\ndays {}\nkey {}\nfirst {}", self.period, self.days, self.key, self.first)?;
        for (name, Wrapped { encapsulated, ciphertext }) in &self.wrapped {
            writeln!(f, "reviewer {name} {} {}", BASE64.encode(encapsulated), BASE64.encode(ciphertext))?;
        }
        Ok(())
    }
}

/// The lines of a file, front to back.
pub(crate) struct Lines<'a> {
    pub(crate) rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { rest: text, number: 0 }
    }

    pub(crate) fn take<T>(&mut self, key: &str, read: impl FnOnce(&'a str) -> Option<T>) -> Result<T, KeyFileError> {
        self.number += 1;
        let wrong = KeyFileError::Line(self.number);
        let (line, rest) = self.rest.split_once('\n').ok_or_else(|| wrong.clone())?;
        self.rest = rest;
        line.strip_prefix(key).and_then(read).ok_or(wrong)
    }

    pub(crate) fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, KeyFileError> {
        if self.rest.starts_with(key) { self.take(key, read).map(Some) } else { Ok(None) }
    }
}

fn read_wrapped(text: &str) -> Option<(&str, Wrapped)> {
    let (name, rest) = text.split_once(' ').filter(|(name, _)| is_name(name))?;
    let (encapsulated, ciphertext) = rest.split_once(' ')?;
    let encapsulated = BASE64.decode(encapsulated).ok()?.try_into().ok()?;
    let ciphertext = BASE64.decode(ciphertext).ok()?.try_into().ok()?;
    Some((name, Wrapped { encapsulated, ciphertext }))
}

pub(crate) fn is_origin(text: &str) -> bool {
    (1..=MAX_ORIGIN).contains(&text.len()) && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

pub(crate) fn days(text: &str) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(decimal(text)?).ok()?)
}

/// The first moment behind so many days from one on, nanoseconds since the Unix epoch.
pub(crate) fn until_ns(period: &str, days: NonZeroU32) -> i64 {
    let first = time::parse(&format!("{period}T00:00:00.000000000Z")).unwrap_or(i64::MAX);
    first.saturating_add(NANOS_PER_DAY.saturating_mul(i64::from(days.get())))
}

/// Whether a text is a day, as [`period`] writes it.
#[must_use]
pub fn is_period(text: &str) -> bool {
    text.len() == 10 && time::parse(&format!("{text}T12:00:00.000000000Z")).is_some()
}

/// The period that a time is in: periods of `days` days follow each other from 1970-01-01, and each has the name of
/// its first day, `year-month-day` in UTC.
#[must_use]
pub fn period(unix_ns: i64, days: NonZeroU32) -> String {
    let days = i64::from(days.get());
    let first = unix_ns.div_euclid(NANOS_PER_DAY).div_euclid(days).saturating_mul(days);
    let mut text = Vec::new();
    time::write(&mut text, first.saturating_mul(NANOS_PER_DAY));
    text.truncate(10);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reviewer(name: &str, byte: u8) -> ReviewerKey {
        ReviewerKey::new(name, [byte; 32], [byte; 32]).unwrap()
    }

    fn file() -> KeyFile {
        let mut file = KeyFile {
            origin: "sekisho.example/gw1/lane-1".into(),
            site: Some("sakura-clinic".into()),
            pseudonym: Pseudonym([0xab; 8]),
            class: Some("clinical".into()),
            period: "2026-11-23".into(),
            days: NonZeroU32::MIN,
            key: KeyId([5; 16]),
            first: 12,
            wrapped: Vec::new(),
        };
        for (name, byte) in [("auditor", 1), ("clinic", 2)] {
            file.wrap_to(&Secret::new([9; 32]), reviewer(name, byte).public()).unwrap();
        }
        file
    }

    #[test]
    fn a_file_comes_back_and_opens_for_its_reviewers() {
        let text = file().encode().unwrap();
        assert_eq!(text.lines().count(), 11);
        assert_eq!(time::parse("2026-11-24T00:00:00.000000000Z"), Some(file().until_ns()));
        let _ = KeyFile::parse(text.as_bytes()).unwrap();
        let read = KeyFile::parse(text.as_bytes()).unwrap();
        for (name, byte) in [("auditor", 1), ("clinic", 2)] {
            assert_eq!(read.open(&reviewer(name, byte)).unwrap().bytes(), &[9; 32]);
        }
        assert_eq!(read.open(&reviewer("other", 1)).unwrap_err(), KeyFileError::Reviewer("other".into()));
        assert_eq!(read.open(&reviewer("clinic", 1)).unwrap_err(), KeyFileError::Wrap(WrapError::Open));
        assert_eq!(read.path(), "abababababababab/2026-11-23/05050505050505050505050505050505");
        let bare = KeyFile { site: None, class: None, pseudonym: Pseudonym::NONE, ..file() };
        assert_eq!(KeyFile::parse(bare.encode().unwrap().as_bytes()), Ok(bare));
        let mut added = file();
        let wrapped = added.wrapped[0].1;
        assert_eq!(added.add("clinic", wrapped), Err(KeyFileError::Duplicate("clinic".into())));
        for n in 2..MAX_WRAPPED {
            added.add(&format!("r{n}"), wrapped).unwrap();
        }
        assert_eq!(added.add("more", wrapped), Err(KeyFileError::Content("one more reviewer")));
        assert_eq!(KeyFile::parse(added.encode().unwrap().as_bytes()), Ok(added));
        let mut twice = file();
        let error = twice.wrap_to(&Secret::new([9; 32]), reviewer("clinic", 3).public()).unwrap_err();
        assert_eq!(error, KeyFileError::Duplicate("clinic".into()));
    }

    #[test]
    fn a_reviewer_wraps_for_one_who_comes_later() {
        let mut file = file();
        let secret = file.open(&reviewer("auditor", 1)).unwrap();
        file.wrap_to(&secret, reviewer("new", 7).public()).unwrap();
        let read = KeyFile::parse(file.encode().unwrap().as_bytes()).unwrap();
        assert_eq!(read.open(&reviewer("new", 7)).unwrap().bytes(), &[9; 32]);
    }

    #[test]
    fn whatever_is_changed_in_the_file_does_not_open() {
        let text = file().encode().unwrap();
        let changes = [
            ("lane-1", "lane-2"),
            ("site sakura-clinic", "site sakura-clinik"),
            ("class clinical", "class clinicaL"),
            ("class clinical\n", ""),
            ("period 2026-11-23", "period 2026-11-22"),
            ("key 05", "key 06"),
        ];
        for (from, to) in changes {
            let changed = KeyFile::parse(text.replacen(from, to, 1).as_bytes()).unwrap();
            assert_eq!(changed.open(&reviewer("auditor", 1)).unwrap_err(), KeyFileError::Wrap(WrapError::Open), "{to}");
        }
        // Another reviewer's line under one's own name.
        let mut swapped = file();
        swapped.wrapped[1].0 = "other".into();
        assert_eq!(swapped.open(&reviewer("other", 2)).unwrap_err(), KeyFileError::Wrap(WrapError::Open));
    }

    #[test]
    fn each_wrong_line_is_named() {
        let text = file().encode().unwrap();
        let lines: Vec<_> = text.lines().collect();
        let line = |number: usize, line: &str| {
            let mut lines = lines.clone();
            lines[number - 1] = line;
            KeyFile::parse(format!("{}\n", lines.join("\n")).as_bytes()).unwrap_err()
        };
        for (number, bad) in [
            (1, "sekisho audit data key v2"),
            (2, "origin "),
            (2, "origin a b"),
            (2, "origin a+b"),
            (3, "site a/b"),
            (3, "site "),
            (4, "pseudonym abababababababAB"),
            (4, "pseudonym 0000000000000000"),
            (5, "class .."),
            (6, "period 2026-02-29"),
            (6, "period 2026-11-23T00"),
            (7, "days 0"),
            (7, "days 4294967296"),
            (8, "key 05"),
            (9, "first 0"),
            (9, "first 01"),
            (10, "reviewer auditor"),
            (10, "reviewer * AAAA AAAA"),
            (10, "reviewer auditor AAAA AAAA"),
            (11, ""),
        ] {
            assert_eq!(line(number, bad), KeyFileError::Line(number), "{bad}");
        }
        // Without a site the pseudonym stands in its place, and is not the one of none.
        let without = text.replace("site sakura-clinic\n", "");
        assert_eq!(KeyFile::parse(without.as_bytes()), Err(KeyFileError::Line(3)));
        assert_eq!(line(11, lines[9]), KeyFileError::Duplicate("auditor".into()));
        let nobody = format!("{}\n", lines[..9].join("\n"));
        assert_eq!(KeyFile::parse(nobody.as_bytes()), Err(KeyFileError::Nobody));
        assert_eq!(KeyFile::parse(text.trim_end().as_bytes()), Err(KeyFileError::Line(11)));
        assert_eq!(KeyFile::parse(&[0xff]), Err(KeyFileError::Text));
        assert_eq!(KeyFile::parse(&vec![b'a'; MAX_FILE + 1]), Err(KeyFileError::Text));
        let content = Err(KeyFileError::Content("a name, the period or a number"));
        for bad in [
            KeyFile { origin: "a\nb".into(), ..file() },
            KeyFile { site: Some(String::new()), ..file() },
            KeyFile { first: 0, ..file() },
            KeyFile { period: "today".into(), ..file() },
        ] {
            assert_eq!(bad.encode(), content);
        }
    }

    #[test]
    fn periods_are_named_by_their_first_day() {
        const DAY: i64 = 86_400_000_000_000;
        let days = |days| NonZeroU32::new(days).unwrap();
        assert_eq!(period(0, days(1)), "1970-01-01");
        assert_eq!(period(-1, days(1)), "1969-12-31");
        assert_eq!(period(1_795_380_602_123_456_789, days(1)), "2026-11-22");
        assert_eq!(period(29 * DAY, days(30)), "1970-01-01");
        assert_eq!(period(30 * DAY, days(30)), "1970-01-31");
        for extreme in [i64::MIN, i64::MAX] {
            for days in [NonZeroU32::MIN, NonZeroU32::MAX] {
                assert!(is_period(&period(extreme, days)), "{extreme} {days}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_period_is_one(unix_ns: i64, days in 1_u32..4_000) {
            prop_assert!(is_period(&period(unix_ns, NonZeroU32::new(days).unwrap())));
        }

        #[test]
        fn what_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..300), place: prop::sample::Index, byte: u8) {
            prop_assert!(KeyFile::parse(&bytes).is_err());
            let mut text = file().encode().unwrap().into_bytes();
            let place = place.index(text.len());
            text[place] = byte;
            if let Ok(read) = KeyFile::parse(&text) {
                prop_assert_eq!(read.to_string().into_bytes(), text);
            }
        }
    }
}
