//! A small demonstration FHIR R4 server: the backend of the quickstart and of tests. It keeps synthetic resources in
//! memory, knows nobody, checks nobody, and therefore binds loopback addresses only.

mod answer;
mod ehr;
mod people;
mod resources;
mod search;
mod service;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tokio::task;

use resources::Resources;

/// The release of FHIR that is spoken.
const FHIR_VERSION: &str = "4.0.1";

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The FHIR base that links in answers start with, as clients see it: `https://localhost:8443/fhir`.
    pub base: String,
    /// Answer `GET /fhir/$echo-headers` with the header fields of the request. For tests of what a backend receives.
    pub echo_headers: bool,
}

/// A running server: a thread of its own. Dropping it ends the thread and its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How long the accept loop rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Serves on a bound listener.
    ///
    /// # Errors
    /// An address that is not loopback (`InvalidInput`), and what the system says about socket, runtime or thread.
    pub fn start(listener: TcpListener, options: Options) -> io::Result<Self> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the demonstration server answers anyone and so binds loopback only, not `{address}`"),
            ));
        }
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("demo-fhir".to_owned()).spawn(move || {
            let local = task::LocalSet::new();
            local.block_on(&runtime, async move {
                tokio::select! {
                    result = accept(listener, options) => {
                        if let Err(error) = result {
                            tracing::error!(%error, "the demonstration server cannot serve");
                        }
                    }
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the demonstration server's thread ended by a panic");
        }
    }
}

async fn accept(listener: TcpListener, options: Options) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let resources = Rc::new(RefCell::new(Resources::synthetic()));
    let options = Rc::new(options);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the demonstration server could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (resources, options) = (Rc::clone(&resources), Rc::clone(&options));
        task::spawn_local(async move {
            let service = service_fn(|request| service::respond(request, &resources, &options));
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the demonstration server ended early");
            }
        });
    }
}

#[cfg(test)]
mod tests;
