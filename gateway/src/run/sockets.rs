//! Listening sockets: those a service manager opened for us by name, and our own.

use std::net::{SocketAddr, TcpListener};

use crate::config::Listener;
use crate::listen::bind;

/// Sockets by the name of the listener they are for.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, TcpListener)>);

impl Sockets {
    /// Takes the TCP sockets that systemd passed (`sd_listen_fds(3)`), each under its `FileDescriptorName`.
    ///
    /// # Errors
    /// If a passed descriptor is no listening TCP socket.
    pub fn from_environment() -> std::io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for (index, name) in
            (0..passed.len()).zip(names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new())))
        {
            if let Some(socket) = passed.take_tcp_listener(index)? {
                socket.set_nonblocking(true)?;
                sockets.push((name, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// Names that no listener of TCP has: a socket that nobody serves would swallow connections.
    #[must_use]
    pub fn unknown(&self, listeners: &[Listener]) -> Vec<String> {
        let known = |name: &str| {
            name == "admin" || listeners.iter().any(|listener| listener.wireguard.is_none() && listener.name == name)
        };
        self.0.iter().map(|(name, _)| name.clone()).filter(|name| !known(name)).collect()
    }

    /// The socket of that name, if one was passed.
    pub fn take(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// One socket of the listener per worker, and where they are.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&mut self, listener: &Listener, workers: usize) -> std::io::Result<(SocketAddr, Vec<TcpListener>)> {
        let first = match self.take(&listener.name) {
            Some(passed) => {
                // One passed socket is shared by all workers: the kernel hands each connection to one of them.
                let address = passed.local_addr()?;
                let all = (0..workers).map(|_| passed.try_clone()).collect::<Result<_, _>>()?;
                return Ok((address, all));
            }
            None => bind(listener.address)?,
        };
        // A port of 0 is chosen once, and shared by the others.
        let address = first.local_addr()?;
        let mut all = vec![first];
        while all.len() < workers {
            all.push(bind(address)?);
        }
        Ok((address, all))
    }
}
