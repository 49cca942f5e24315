//! `sekisho audit ship` in front of a clinic's log, started and ended by process id.

use std::fs::File;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::binary;
use crate::wait::until;

/// The passphrase of the reviewer that ships.
const PASSPHRASE: &str = "correct horse battery";

/// A running shipper. Killed when dropped.
#[derive(Debug)]
pub struct Ship {
    child: Child,
    said: PathBuf,
}

/// Writes `ship.toml` for a clinic's log into a folder, with these destinations in TOML, and what else it names.
///
/// # Panics
/// If a file cannot be written.
#[must_use]
pub fn configure(folder: &Path, audit: &Path, keys: &Path, destinations: &str) -> PathBuf {
    let key = crate::audit::reviewer().protect(PASSPHRASE, NonZeroU32::MIN, [7; 16]).expect("a private file");
    for (name, text) in [("ship.key", key.as_str()), ("passphrase", PASSPHRASE)] {
        private(&folder.join(name), text);
    }
    let (audit, keys) = (audit.display(), keys.display());
    let text = format!(
        "[audit]\ndirectory = \"{audit}\"\nkey_directory = \"{keys}\"\n[reviewer]\nkey_file = \"ship.key\"\n\
         passphrase_file = \"passphrase\"\n[state]\ndirectory = \"ship-state\"\n[pace]\npoll_ms = 50\nretry_max_s = 1\n\
         report_s = 1\n{destinations}"
    );
    let file = folder.join("ship.toml");
    private(&file, &text);
    file
}

/// A file for its owner alone.
///
/// # Panics
/// If it cannot be written.
pub fn private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

impl Ship {
    /// Starts `sekisho audit ship --config FILE`; what it says goes to a file beside that.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(config: &Path) -> Self {
        let said = config.with_extension("said");
        let output = File::options().create(true).append(true).open(&said).expect("a file");
        let copy = output.try_clone().expect("a second handle");
        let mut command = Command::new(binary());
        command.args(["audit", "ship", "--config"]).arg(config).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        let child = command.stdout(copy).stderr(output).spawn().expect("`sekisho audit ship` starts");
        Self { child, said }
    }

    /// What it said, in all its lives.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.said).unwrap_or_default()).into_owned()
    }

    /// Waits until it says something.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_for(&self, words: &str) {
        until(words, || self.said().contains(words).then_some(()));
    }

    /// Kills it: nothing is finished.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Tells it to end, and waits for that.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn end(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")).expect("not 0");
        kill_process(pid, Signal::TERM).expect("it runs");
        until("the shipper to end", || self.child.try_wait().expect("a child"))
    }

    /// How it ended by itself.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the shipper to end", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
