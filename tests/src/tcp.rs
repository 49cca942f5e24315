//! Listeners and backends that carry no HTTP.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::wait::PATIENCE;

/// A listener of kind `tcp`, named and routed `name`, to the service of that name at this address; more keys of `[[listener.stream]]`.
#[must_use]
pub fn listener(name: &str, protocol: &str, backend: SocketAddr, more: &str) -> String {
    listener_to(name, protocol, &format!("tcp://{backend}"), "", more)
}

/// As [`listener`], with the backend's URL, and more keys of the listener before its tables.
#[must_use]
pub fn listener_to(name: &str, protocol: &str, backend: &str, keys: &str, more: &str) -> String {
    let profile = if protocol == "dicom" { "cryptrec-high-tls12" } else { "cryptrec-high" };
    format!(
        "[[listener]]\nname = \"{name}\"\nkind = \"tcp\"\naddress = \"127.0.0.1:0\"\n\
         server_names = [\"localhost\", \"127.0.0.1\"]\n{keys}\n\
         tls = {{ certificate_file = \"tls/server.crt\", key_file = \"tls/server.key\", \
         client_ca_file = \"tls/devices-ca.crt\", profile = \"{profile}\" }}\n\
         [[listener.stream]]\nprotocol = \"{protocol}\"\nroute = \"{name}\"\nservice = \"{name}\"\nclass = \"clinical\"\n{more}\n\
         [[service]]\nname = \"{name}\"\nbackends = [\"{backend}\"]\n"
    )
}

/// A server that runs a script for each connection, in a thread of its own.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    ending: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves until it is dropped.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn start(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (ending, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, counts) = (Arc::clone(&ending), Arc::clone(&count));
        let script = Arc::new(script);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                counts.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(stream));
            }
        });
        Self { address, ending, count, thread: Some(thread) }
    }

    /// How many connections came.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
