//! Where a passphrase comes from: never the command line, which every process on the machine can read.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{CaError, read_private};

/// The environment variable with the root key's passphrase.
pub const ROOT_VARIABLE: &str = "SEKISHO_CA_PASSPHRASE";
/// The environment variable with the issuing key's passphrase.
pub const ISSUING_VARIABLE: &str = "SEKISHO_ISSUING_PASSPHRASE";

/// Where to read it.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file that its owner alone may read; a line break at its end does not count.
    File(PathBuf),
    /// A systemd credential; a line break at its end does not count. systemd keeps it for the service alone, by rights
    /// that its mode does not show.
    Credential(PathBuf),
    /// An environment variable.
    Variable(&'static str),
    /// The terminal, without echo, asking with these words.
    Terminal(Cow<'static, str>),
}

impl Source {
    /// The file if there is one, the variable if it is set, or else the terminal.
    #[must_use]
    pub fn choose(file: Option<PathBuf>, variable: &'static str, words: &'static str) -> Self {
        match file {
            Some(file) => Self::File(file),
            None if std::env::var_os(variable).is_some() => Self::Variable(variable),
            None => Self::Terminal(words.into()),
        }
    }

    /// Whether a person types it, and may mistype it.
    #[must_use]
    pub const fn is_typed(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`CaError`] says what is missing.
    pub fn read(&self) -> Result<String, CaError> {
        match self {
            Self::File(path) => {
                let text = read_private(path)?;
                Ok(text.trim_end_matches(['\n', '\r']).to_owned())
            }
            Self::Credential(path) => {
                let text = std::fs::read_to_string(path).map_err(CaError::file(path))?;
                Ok(text.trim_end_matches(['\n', '\r']).to_owned())
            }
            Self::Variable(name) => {
                std::env::var(name).map_err(|_| CaError::Passphrase(format!("`{name}` is not set, or not UTF-8")))
            }
            Self::Terminal(words) => ask(words).map_err(|error| {
                CaError::Passphrase(format!("no terminal to ask at ({error}); give a file or a variable"))
            }),
        }
    }
}

fn ask(words: &str) -> std::io::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    write!(terminal, "{words}: ")?;
    tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
    let mut line = String::new();
    let read = BufReader::new(&terminal).read_line(&mut line);
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    writeln!(terminal)?;
    read?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_at_the_end_of_a_file_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        certs::issue::write_private_file(&path, b"two words \r\n").unwrap();
        assert_eq!(Source::File(path).read().unwrap(), "two words ");
        assert!(Source::Variable("SEKISHO_NO_SUCH_VARIABLE").read().is_err());
    }
}
