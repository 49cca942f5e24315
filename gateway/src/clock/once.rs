//! The clock, looked at once: what `sekisho clock` shows.

use super::estimate::{Estimate, Sources, Word};
use super::kernel::{self, monotonic_ns};
use super::probe::{ProbeError, ask_chrony, ask_server};
use super::servers::Asking;

/// Every source asked once.
#[derive(Debug)]
pub struct Asked {
    /// What follows from what they said.
    pub estimate: Estimate,
    /// Those that did not answer, and why: name and error.
    pub errors: Vec<(String, ProbeError)>,
}

/// Asks the kernel, chronyd and the servers, all at the same time.
///
/// # Errors
/// If the kernel does not let anybody ask it.
pub async fn once(asking: &Asking) -> std::io::Result<Asked> {
    let names = asking.servers.iter().map(|server| server.address.clone());
    let mut sources = Sources::new(asking.chrony.is_some(), names, asking.stale_ns());
    let mut errors = Vec::new();
    let servers = futures_util::future::join_all(asking.servers.iter().map(ask_server));
    let chrony = async {
        match asking.chrony {
            Some(address) => Some(ask_chrony(address).await),
            None => None,
        }
    };
    let (chrony, servers) = futures_util::future::join(chrony, servers).await;
    let mut take = |name: &str, outcome: Result<Word, ProbeError>| match outcome {
        Ok(word) => word,
        Err(error) => {
            errors.push((name.to_owned(), error));
            Word::Silent
        }
    };
    if let Some(outcome) = chrony {
        sources.chrony(take("chrony", outcome));
    }
    for ((number, server), outcome) in asking.servers.iter().enumerate().zip(servers) {
        sources.server(number, take(&server.address, outcome));
    }
    sources.kernel(kernel::ask()?);
    Ok(Asked { estimate: sources.estimate(monotonic_ns()), errors })
}
