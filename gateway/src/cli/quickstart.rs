//! `sekisho quickstart`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::quickstart::{Options, Running, run};
use crate::run::{self, Ending};

/// Make two clinics with devices, people and policies in a folder, and run the gateway before a demonstration FHIR
/// server
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Folder to make, or to go on with
    #[arg(long, value_name = "DIR", default_value = "./quickstart")]
    pub dir: PathBuf,
    /// Make the example's requests, compare the answers with what is expected, and end
    #[arg(long)]
    pub check: bool,
    /// Address of the clinics' listener in a new folder [default: 127.0.0.1:8443]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of the admin listener in a new folder [default: 127.0.0.1:9443]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
}

impl QuickstartArgs {
    /// Runs it. 0 if all went as expected, 1 otherwise.
    ///
    /// # Errors
    /// What kept it from being made or run.
    pub fn run<R: Running>(self, start: impl FnOnce(&Path) -> Result<R, String>) -> anyhow::Result<ExitCode> {
        let Self { dir, check, listen, admin } = self;
        let all = run(&Options { dir, check, listen, admin }, &mut io::stdout().lock(), start)?;
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Running for run::Running {
    /// Starting it has waited already.
    fn wait_ready(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn reload(&self) {
        drop(self.begin_reload());
    }

    fn has_ended(&self) -> bool {
        Self::has_ended(self)
    }

    fn stop(self) -> Result<(), String> {
        self.drain();
        match self.wait() {
            Ending::Clean => Ok(()),
            Ending::Unclean => Err("requests were cut, or the log could not be closed".to_owned()),
        }
    }
}
