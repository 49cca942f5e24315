//! A record as it was written: canonical JSON.

use gateway_audit::header::Kind;
use gateway_audit::time;
use serde_json::{Map, Value};

use crate::text;

/// Why bytes are not a record. Says nothing of what is in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not a JSON object.
    #[error("the record is not a JSON object")]
    Json,
    /// A key that every record has is missing, or is not what it should be.
    #[error("the record's `{0}` is missing or wrong")]
    Key(&'static str),
}

/// An opened record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    kind: Kind,
    sequence: u64,
    unix_ns: i64,
    value: Map<String, Value>,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn parse(json: &[u8]) -> Result<Self, RecordError> {
        let Ok(Value::Object(value)) = serde_json::from_slice(json) else { return Err(RecordError::Json) };
        let of = |key: &'static str| value.get(key).ok_or(RecordError::Key(key));
        let kind = of("kind")?.as_str().and_then(Kind::from_label).ok_or(RecordError::Key("kind"))?;
        let sequence = of("sequence")?;
        // Beyond what a double holds exactly, it is digits in a string.
        let sequence = sequence.as_u64().or_else(|| sequence.as_str()?.parse().ok());
        let sequence = sequence.ok_or(RecordError::Key("sequence"))?;
        let unix_ns = of("time")?.as_str().and_then(time::parse).ok_or(RecordError::Key("time"))?;
        of("node")?.as_str().ok_or(RecordError::Key("node"))?;
        Ok(Self { kind, sequence, unix_ns, value })
    }

    /// What kind of record it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its place in the log.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_ns(&self) -> i64 {
        self.unix_ns
    }

    /// The whole of it.
    #[must_use]
    pub const fn value(&self) -> &Map<String, Value> {
        &self.value
    }

    /// The value at a path such as `connection.site`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Value> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let value = self.value.get(first)?;
        rest.map_or(Some(value), |rest| rest.split('.').try_fold(value, |value, key| value.get(key)))
    }

    /// The value at a path in its form as text.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        self.at(path).and_then(text::of)
    }

    /// The items of a list in their form as text.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<String> {
        self.at(path).and_then(Value::as_array).into_iter().flatten().filter_map(text::of).collect()
    }

    /// A label of a closed list.
    pub(crate) fn label(&self, path: &str) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }
}
