//! The command line of `sekisho-verify`, read by hand so that nothing else needs to be trusted.

use std::ffi::OsString;
use std::path::PathBuf;

use gateway_audit::time;
use gateway_audit::verify::{Edge, Part};

/// What `--help` says.
pub const HELP: &str = "\
Verifies an audit log of Sekisho: that nothing in it was altered, removed, inserted, reordered, truncated or forked.

Usage: sekisho-verify DIR --key KEY [--key KEY]... [--checkpoint FILE]... [--witness KEY]... [--require N]
                      [--from PLACE] [--to PLACE]

  DIR                 A log's folder, a node's with its logs, or a folder of nodes; the gateway may be running
  --key KEY           The log's verifier key, or a file with one on each line. Get it by another way than the log
  --checkpoint FILE   A checkpoint of the same log that was kept elsewhere: the log must continue it
  --witness KEY       A witness's verifier key, or a file with one on each line: witnesses must have cosigned the log's
                      checkpoint, or a `checkpoint.cosigned` beside it, or one that --checkpoint names, and the log
                      must continue what they signed
  --require N         How many of them; all unless given
  --from PLACE        Verify only this part of each log, from the tiles of hashes down: from a record's number on, or a
                      time (2026-11-23, 2026-11-23T09:00:00+09:00)
  --to PLACE          Up to and with a record's number, or to before a time
  -h, --help          This text
  -V, --version       The version

Exit code: 0 all good; 1 something is bad; 2 the command cannot be understood, or something cannot be read.
";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Verify.
    Verify {
        /// The directory.
        directory: PathBuf,
        /// Verifier keys, or files of them.
        keys: Vec<String>,
        /// Older checkpoints.
        older: Vec<PathBuf>,
        /// Keys of witnesses, or files of them.
        witnesses: Vec<String>,
        /// How many of them must have signed.
        require: Option<usize>,
        /// The part that is asked for; none for all of it.
        part: Option<Part>,
    },
    /// Say what can be done.
    Help,
    /// Say the version.
    Version,
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let (mut directory, mut keys, mut older) = (None, Vec::new(), Vec::new());
    let (mut witnesses, mut require) = (Vec::new(), None);
    let (mut from, mut to) = (None, None);
    let mut options = true;
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().filter(|text| options && text.starts_with('-')).unwrap_or_default();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if text.starts_with("--") => (name, Some(OsString::from(value))),
            Some(_) | None => (text, None),
        };
        let mut value = || value.clone().or_else(|| arguments.next()).ok_or_else(|| format!("`{name}` needs a value"));
        match name {
            "" if directory.is_none() => directory = Some(PathBuf::from(argument)),
            "" => return Err(format!("`{}` is one directory too many", argument.display())),
            "-h" | "--help" => return Ok(Command::Help),
            "-V" | "--version" => return Ok(Command::Version),
            "--key" => keys.push(value()?.into_string().map_err(|_| "`--key` is not UTF-8".to_owned())?),
            "--witness" => witnesses.push(value()?.into_string().map_err(|_| "`--witness` is not UTF-8".to_owned())?),
            "--require" => {
                let number = value()?.into_string().ok().and_then(|number| number.parse().ok());
                require = Some(number.ok_or("`--require` is not a number")?);
            }
            "--checkpoint" => older.push(PathBuf::from(value()?)),
            "--from" => from = Some(from_edge(&value()?.to_string_lossy())?),
            "--to" => to = Some(to_edge(&value()?.to_string_lossy())?),
            "--" => options = false,
            _ => return Err(format!("`{name}` is not known")),
        }
    }
    let directory = directory.ok_or("no directory is given")?;
    if keys.is_empty() {
        return Err("no `--key` is given".to_owned());
    }
    let part = (from.is_some() || to.is_some()).then_some(Part { from, to });
    Ok(Command::Verify { directory, keys, older, witnesses, require, part })
}

/// Where a part begins: a record's number, or a time.
///
/// # Errors
/// What is wrong, in words.
pub fn from_edge(text: &str) -> Result<Edge, String> {
    edge(text, 0)
}

/// What comes behind a part: the record after the one with this number, or the first of this time.
///
/// # Errors
/// What is wrong, in words.
pub fn to_edge(text: &str) -> Result<Edge, String> {
    edge(text, 1)
}

fn edge(text: &str, add: u64) -> Result<Edge, String> {
    let record = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let record = record.map(|number| Edge::Record(number.saturating_add(add)));
    let edge = record.or_else(|| time::read(text).map(Edge::Time));
    edge.ok_or_else(|| format!("`{}` is neither a record's number nor a time of RFC 3339", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn arguments_are_read() {
        let verify = |keys: &[&str], older: &[&str]| {
            let keys = keys.iter().map(ToString::to_string).collect();
            let older = older.iter().map(PathBuf::from).collect();
            let (directory, witnesses) = ("d".into(), Vec::new());
            Ok(Command::Verify { directory, keys, older, witnesses, require: None, part: None })
        };
        assert_eq!(read(&["d", "--key", "k"]), verify(&["k"], &[]));
        assert_eq!(read(&["--key=a=b", "d", "--key", "-k", "--checkpoint=c"]), verify(&["a=b", "-k"], &["c"]));
        assert_eq!(read(&["--key", "k", "--", "d"]), verify(&["k"], &[]));
        let witnessed = read(&["d", "--key", "k", "--witness", "w", "--witness=v", "--require", "2"]);
        let Ok(Command::Verify { witnesses, require, .. }) = witnessed else { panic!("{witnessed:?}") };
        assert_eq!((witnesses, require), (vec!["w".to_owned(), "v".to_owned()], Some(2)));
        assert_eq!(read(&["--help"]), Ok(Command::Help));
        assert_eq!(read(&["d", "-V"]), Ok(Command::Version));
    }

    #[test]
    fn parts_are_between_numbers_or_times() {
        let part = |words: &[&str]| match read(&[&["d", "--key", "k"], words].concat()) {
            Ok(Command::Verify { part, .. }) => part,
            other => panic!("{other:?}"),
        };
        let second = Edge::Time(1_000_000_000);
        assert_eq!(part(&["--from", "7"]), Some(Part { from: Some(Edge::Record(7)), to: None }));
        assert_eq!(part(&["--to=7"]), Some(Part { from: None, to: Some(Edge::Record(8)) }));
        let both = part(&["--from", "1970-01-01", "--to", "1970-01-01T09:00:01+09:00"]);
        assert_eq!(both, Some(Part { from: Some(Edge::Time(0)), to: Some(second) }));
        for bad in ["", "07", "-1", "yesterday"] {
            assert!(read(&["d", "--key", "k", "--from", bad]).unwrap_err().contains("neither"), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, why) in [
            (&[][..], "no directory"),
            (&["d"], "no `--key`"),
            (&["d", "--key"], "`--key` needs a value"),
            (&["d", "--kye", "k"], "`--kye` is not known"),
            (&["d", "e", "--key", "k"], "`e` is one directory too many"),
            (&["d", "--key", "k", "--require", "-1"], "`--require` is not a number"),
            (&["-x"], "`-x` is not known"),
        ] {
            assert!(read(arguments).unwrap_err().contains(why), "{arguments:?}");
        }
    }
}
