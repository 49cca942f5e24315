//! Why a destination gets no further.

/// Why a destination gets no further. It is tried again; the words name no user and no patient.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The log cannot be read, or is not the one that was shipped before.
    #[error("the log: {0}")]
    Log(String),
    /// The log is not the one that a witness, a copy or this process knows: it was rolled back, forked or altered, or the
    /// copy was. A person has to look; nothing is written over.
    #[error("ALARM: {0}")]
    Alarm(String),
    /// The receiver is not there, refuses, or went away.
    #[error("the receiver: {0}")]
    Receiver(String),
    /// What this process keeps itself cannot be read or written.
    #[error("`{file}`: {cause}")]
    State {
        /// The file.
        file: String,
        /// What is wrong.
        cause: String,
    },
}
