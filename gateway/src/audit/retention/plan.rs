//! What is about to be destroyed, on disk: so that a crash at any moment leaves either keys and no record, or a record
//! that the next look completes.
//!
//! ```text
//! sekisho audit destroying v1
//! operation <hexadecimal digits>
//! lane <number>
//! state <planned, or recorded>
//! <what is to stand in place of each key, one text after the other>
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gateway_audit::destroyed::{Destroyed, is_operation};

use super::RetentionError;
use crate::replace::replace;

/// The plan in the key directory.
const FILE: &str = "destroying";
const TITLE: &str = "sekisho audit destroying v1";
const KEY: &str = "sekisho audit data key destroyed ";

/// How far it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The log may hold the record of it, or not.
    Planned,
    /// It does.
    Recorded,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) operation: String,
    /// The lane that it is recorded in.
    pub(super) lane: u8,
    pub(super) state: State,
    pub(super) keys: Vec<Destroyed>,
}

impl Plan {
    fn parse(text: &str) -> Option<Self> {
        let (head, rest) = match text.find(KEY) {
            Some(place) => text.split_at_checked(place)?,
            None => (text, ""),
        };
        let mut lines = head.lines();
        let mut take = |prefix: &str| lines.next()?.strip_prefix(prefix).map(str::to_owned);
        take(TITLE).filter(String::is_empty)?;
        let operation = take("operation ").filter(|text| is_operation(text))?;
        let lane = take("lane ")?.parse().ok()?;
        let state = match take("state ")?.as_str() {
            "planned" => State::Planned,
            "recorded" => State::Recorded,
            _ => return None,
        };
        let keys = rest.split(KEY).skip(1).map(|key| Destroyed::parse(format!("{KEY}{key}").as_bytes()).ok());
        let read = Self { operation, lane, state, keys: keys.collect::<Option<_>>()? };
        (read.text() == text).then_some(read)
    }

    fn text(&self) -> String {
        let state = match self.state {
            State::Planned => "planned",
            State::Recorded => "recorded",
        };
        let mut text = format!("{TITLE}\noperation {}\nlane {}\nstate {state}\n", self.operation, self.lane);
        self.keys.iter().for_each(|key| text.push_str(&key.to_string()));
        text
    }

    /// Puts it in place of the one before. It is on disk when this returns.
    pub(super) fn write(&self, directory: &Path) -> Result<(), RetentionError> {
        let path = directory.join(FILE);
        replace(&path, self.text().as_bytes(), 0o600).map_err(|source| RetentionError::Io { path, source })
    }

    /// The one that is not completed, if there is one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, RetentionError> {
        let path = directory.join(FILE);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RetentionError::Io { path, source }),
            Ok(text) => Self::parse(&text).map(Some).ok_or(RetentionError::Plan(path)),
        }
    }

    /// It is completed, or came to nothing.
    pub(super) fn remove(directory: &Path) -> Result<(), RetentionError> {
        let path: PathBuf = directory.join(FILE);
        let removed = fs::remove_file(&path).and_then(|()| fs::File::open(directory)?.sync_all());
        removed.map_err(|source| RetentionError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_audit::header::{KeyId, Pseudonym};
    use gateway_audit::record::Why;

    #[test]
    fn a_plan_comes_back_and_a_torn_one_is_none() {
        let key = |byte| Destroyed {
            origin: "sekisho.example/gw1/lane-1".into(),
            pseudonym: Pseudonym([1; 8]),
            class: None,
            period: "2016-11-23".into(),
            days: std::num::NonZeroU32::MIN,
            key: KeyId([byte; 16]),
            first: 12,
            why: Why::Retention,
            operation: "0af1".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Plan::read(folder.path()).unwrap(), None);
        for state in [State::Planned, State::Recorded] {
            let plan = Plan { operation: "0af1".into(), lane: 2, state, keys: vec![key(1), key(2)] };
            plan.write(folder.path()).unwrap();
            assert_eq!(Plan::read(folder.path()).unwrap(), Some(plan.clone()));
            let text = plan.text();
            assert_eq!(Plan::parse(text.trim_end()), None);
            assert_eq!(Plan::parse(&text.replacen("lane 2", "lane two", 1)), None);
            assert_eq!(Plan::parse(&text.replacen("state", "State", 1)), None);
        }
        Plan::remove(folder.path()).unwrap();
        assert_eq!(Plan::read(folder.path()).unwrap(), None);
        fs::write(folder.path().join(FILE), "x").unwrap();
        assert!(matches!(Plan::read(folder.path()), Err(RetentionError::Plan(_))));
    }
}
