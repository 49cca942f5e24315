//! The metrics of QUIC. No label ever names a peer.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// See the fields; all are by listener.
#[derive(Debug, Clone)]
pub struct Meters {
    /// Handshakes that were put off until the peer has proved its address.
    pub retries: IntCounterVec,
    /// Connections whose peer came from another address from then on.
    pub migrations: IntCounterVec,
    /// Datagrams of other workers' connections, by what became of them: `passed` or `lost`.
    pub passed: IntCounterVec,
    /// Connections that ended since the library of HTTP/3 panicked.
    pub panics: IntCounterVec,
}

/// The counters of what is passed on, found once.
#[derive(Debug, Clone)]
pub(super) struct Passing {
    pub(super) passed: IntCounter,
    pub(super) lost: IntCounter,
}

impl Meters {
    /// Registers them.
    ///
    /// # Errors
    /// If another metric has the name of one of them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(format!("sekisho_quic_{name}"), help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        Ok(Self {
            retries: counters("retries_total", "Handshakes put off until the address is proved.", &["listener"])?,
            migrations: counters("migrations_total", "Connections that came from another address.", &["listener"])?,
            passed: counters(
                "datagrams_passed_on_total",
                "Datagrams that came to another worker than their connection's, by what became of them.",
                &["listener", "outcome"],
            )?,
            panics: counters("panics_total", "Connections that ended by a panic.", &["listener"])?,
        })
    }

    pub(super) fn passing(&self, listener: &str) -> Passing {
        // An increase from nothing is none to whoever watches.
        for counter in [&self.panics, &self.migrations, &self.retries] {
            counter.with_label_values(&[listener]);
        }
        Passing {
            passed: self.passed.with_label_values(&[listener, "passed"]),
            lost: self.passed.with_label_values(&[listener, "lost"]),
        }
    }
}
