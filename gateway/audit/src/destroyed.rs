//! What stands in place of a data key's file once the key is destroyed: what the key was for, and the operation that the
//! log's record of it names. Text:
//!
//! ```text
//! sekisho audit data key destroyed v1
//! origin <name of the log>
//! pseudonym <16 hexadecimal digits>
//! class <name>                     (absent where there is none)
//! period <year-month-day>
//! days <how many the period has>
//! key <32 hexadecimal digits>
//! first <sequence number of the first record under it>
//! why <retention or shred>
//! operation <hexadecimal digits>
//! ```

use std::fmt;
use std::num::NonZeroU32;

use crate::checkpoint::decimal;
use crate::header::{KeyId, Pseudonym};
use crate::keyfile::{self, KeyFile, KeyFileError, Lines, MAX_FILE, is_origin, is_period};
use crate::record::Why;
use crate::reviewer::is_name;

const TITLE: &str = "sekisho audit data key destroyed ";

/// A data key that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// Name of the log.
    pub origin: String,
    /// The site's pseudonym.
    pub pseudonym: Pseudonym,
    /// The class of information.
    pub class: Option<String>,
    /// The period, by its first day.
    pub period: String,
    /// How many days the period had.
    pub days: NonZeroU32,
    /// The data key's id.
    pub key: KeyId,
    /// Sequence number of the first record under it.
    pub first: u64,
    /// Why.
    pub why: Why,
    /// The operation, as in the record's reference.
    pub operation: String,
}

impl Destroyed {
    /// What is to stand in place of a key's file.
    #[must_use]
    pub fn of(file: &KeyFile, why: Why, operation: &str) -> Self {
        Self {
            origin: file.origin.clone(),
            pseudonym: file.pseudonym,
            class: file.class.clone(),
            period: file.period.clone(),
            days: file.days,
            key: file.key,
            first: file.first,
            why,
            operation: operation.to_owned(),
        }
    }

    /// Whether a file is such a one; it need not be whole.
    #[must_use]
    pub fn is(file: &[u8]) -> bool {
        file.starts_with(TITLE.as_bytes())
    }

    /// Reads a file strictly.
    ///
    /// # Errors
    /// [`KeyFileError`] names the first line that is wrong.
    pub fn parse(file: &[u8]) -> Result<Self, KeyFileError> {
        let text = std::str::from_utf8(file).ok().filter(|text| text.len() <= MAX_FILE).ok_or(KeyFileError::Text)?;
        let mut lines = Lines::new(text);
        lines.take(TITLE, |version| (version == "v1").then_some(()))?;
        let read = Self {
            origin: lines.take("origin ", |origin| is_origin(origin).then(|| origin.to_owned()))?,
            pseudonym: lines.take("pseudonym ", Pseudonym::parse)?,
            class: lines.optional("class ", |class| is_name(class).then(|| class.to_owned()))?,
            period: lines.take("period ", |text| is_period(text).then(|| text.to_owned()))?,
            days: lines.take("days ", keyfile::days)?,
            key: lines.take("key ", KeyId::parse)?,
            first: lines.take("first ", |text| decimal(text).filter(|first| *first > 0))?,
            why: lines.take("why ", Why::from_label)?,
            operation: lines.take("operation ", |text| is_operation(text).then(|| text.to_owned()))?,
        };
        if lines.rest.is_empty() { Ok(read) } else { lines.take("", |_| None) }
    }
}

/// Whether a text can name an operation: 1 to 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_operation(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Destroyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TITLE}v1\norigin {}\npseudonym {}\n", self.origin, self.pseudonym)?;
        if let Some(class) = &self.class {
            writeln!(f, "class {class}")?;
        }
        write!(f, "period {}\ndays {}\nkey {}\nfirst {}\n", self.period, self.days, self.key, self.first)?;
        write!(f, "why {}\noperation {}\n", self.why.label(), self.operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn destroyed() -> Destroyed {
        Destroyed {
            origin: "sekisho.example/gw1/lane-1".into(),
            pseudonym: Pseudonym([0xab; 8]),
            class: Some("clinical".into()),
            period: "2016-11-23".into(),
            days: NonZeroU32::MIN,
            key: KeyId([5; 16]),
            first: 12,
            why: Why::Retention,
            operation: "0af1".into(),
        }
    }

    #[test]
    fn a_file_comes_back_and_is_no_key() {
        for read in [destroyed(), Destroyed { class: None, pseudonym: Pseudonym::NONE, why: Why::Shred, ..destroyed() }]
        {
            let text = read.to_string();
            assert!(Destroyed::is(text.as_bytes()));
            assert_eq!(Destroyed::parse(text.as_bytes()), Ok(read));
            assert_eq!(KeyFile::parse(text.as_bytes()), Err(KeyFileError::Line(1)));
        }
        let text = destroyed().to_string();
        for (from, to, line) in [
            ("destroyed v1", "destroyed v2", 1),
            ("origin ", "origin +", 2),
            ("abab", "ABAB", 3),
            ("clinical", "a b", 4),
            ("2016-11-23", "2016-11-31", 5),
            ("days 1", "days 0", 6),
            ("key 05", "key 5", 7),
            ("first 12", "first 0", 8),
            ("retention", "rain", 9),
            ("0af1", "0aF1", 10),
            ("0af1\n", "0af1\n\n", 11),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_eq!(Destroyed::parse(changed.as_bytes()), Err(KeyFileError::Line(line)), "{changed}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(place: prop::sample::Index, byte: u8) {
            let mut text = destroyed().to_string().into_bytes();
            let place = place.index(text.len());
            text[place] = byte;
            if let Ok(read) = Destroyed::parse(&text) {
                prop_assert_eq!(read.to_string().into_bytes(), text);
            }
        }
    }
}
