//! A copy's files by name, in a directory or a bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig};

use super::connector::Connector;
use super::credentials::Credentials;
use super::settings::{CopySettings, Place, S3Settings};
use crate::ship::Fault;

/// How long one request is tried again; what fails then is tried by the destination's own pauses.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Where a copy lies.
#[derive(Debug)]
pub(super) struct Store {
    store: Box<dyn ObjectStore>,
    /// Whether it can be told to replace nothing.
    conditional: Arc<AtomicBool>,
    prefix: String,
    /// In words, for faults.
    place: String,
}

impl Store {
    pub(super) fn open(settings: &CopySettings) -> Result<Self, Fault> {
        let receiver = |error: &dyn std::fmt::Display| Fault::Receiver(error.to_string());
        let prefix = settings.prefix.clone().unwrap_or_default();
        let mut conditional = Arc::new(AtomicBool::new(true));
        let (store, place): (Box<dyn ObjectStore>, String) = match settings.place().map_err(|why| receiver(&why))? {
            Place::Directory(directory) => {
                let place = format!("`{}`", directory.display());
                std::fs::create_dir_all(directory).map_err(|error| receiver(&format!("{place}: {error}")))?;
                let store = LocalFileSystem::new_with_prefix(directory).map_err(|error| receiver(&error))?;
                // A checkpoint that is on disk must not outlive its tiles.
                (Box::new(store.with_fsync(true)), place)
            }
            Place::S3(s3) => {
                let connector = Connector::new(s3).map_err(|why| receiver(&why))?;
                conditional = connector.conditional();
                (Box::new(bucket(s3, connector)?), format!("bucket `{}`", s3.bucket))
            }
        };
        Ok(Self { store, conditional, prefix, place })
    }

    fn name(&self, name: &str) -> Path {
        if self.prefix.is_empty() { Path::from(name) } else { Path::from(format!("{}/{name}", self.prefix)) }
    }

    fn fault(&self, name: &str, error: &Error) -> Fault {
        Fault::Receiver(format!("{}: `{name}`: {}", self.place, words(error)))
    }

    /// A file's content; none if there is no such file.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let read = async { self.store.get(&self.name(name)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fault(name, &error)),
        }
    }

    /// Makes a file that never changes. One that is there must be the same.
    pub(super) async fn give(&self, name: &str, content: Vec<u8>) -> Result<(), Fault> {
        if self.conditional.load(Ordering::Relaxed) {
            let payload = PutPayload::from(content.clone());
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&self.name(name), payload, create).await {
                Ok(_) => return Ok(()),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    return self.compare(name, &content).await;
                }
                Err(_) if !self.conditional.load(Ordering::Relaxed) => {}
                Err(error) => return Err(self.fault(name, &error)),
            }
        }
        // A store that cannot be told to keep what it has is looked into first.
        match self.read(name).await? {
            Some(held) => self.same(name, &held, &content),
            None => self.replace(name, content).await,
        }
    }

    async fn compare(&self, name: &str, content: &[u8]) -> Result<(), Fault> {
        let Some(held) = self.read(name).await? else {
            return Err(Fault::Receiver(format!("{}: `{name}` is there and is not", self.place)));
        };
        self.same(name, &held, content)
    }

    fn same(&self, name: &str, held: &[u8], content: &[u8]) -> Result<(), Fault> {
        if held == content {
            return Ok(());
        }
        Err(Fault::Alarm(format!(
            "`{name}` of the copy in {} is another than the log's: the copy was altered, or another log is copied there; \
             nothing is written over it",
            self.place
        )))
    }

    /// Makes or replaces a file.
    pub(super) async fn replace(&self, name: &str, content: Vec<u8>) -> Result<(), Fault> {
        let put = self.store.put(&self.name(name), PutPayload::from(content)).await;
        put.map(drop).map_err(|error| self.fault(name, &error))
    }

    /// Removes all files in a folder.
    pub(super) async fn remove_below(&self, name: &str) -> Result<(), Fault> {
        let folder = self.name(name);
        let found: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|error| self.fault(name, &error))?;
        for file in found {
            match self.store.delete(&file.location).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.fault(name, &error)),
            }
        }
        Ok(())
    }
}

fn bucket(settings: &S3Settings, connector: Connector) -> Result<impl ObjectStore, Fault> {
    let receiver = |error: &dyn std::fmt::Display| Fault::Receiver(error.to_string());
    let Credentials { key_id, secret, token } = Credentials::load(settings).map_err(|why| receiver(&why))?;
    let mut builder = AmazonS3Builder::new()
        .with_endpoint(settings.endpoint.trim_end_matches('/'))
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_access_key_id(key_id)
        .with_secret_access_key(secret)
        // Which hosts may be spoken to without TLS, the connector says.
        .with_allow_http(settings.endpoint.starts_with("http:"))
        .with_virtual_hosted_style_request(false)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig { retry_timeout: RETRY, ..RetryConfig::default() })
        .with_http_connector(connector);
    if let Some(token) = token {
        builder = builder.with_token(token);
    }
    builder.build().map_err(|error| receiver(&error))
}

/// What went wrong, with its causes; safe for a terminal.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        source = cause.source();
    }
    words.chars().take(600).flat_map(char::escape_debug).collect()
}
