//! A real syslog server: Debian's `rsyslogd` with TLS on loopback (RFC 5425).

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::own_address;
use crate::ship::private;
use crate::wait::until;

/// What a server is made of; it is started, killed and started again with the same file.
#[derive(Debug)]
pub struct Rsyslog {
    folder: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    child: Option<Child>,
}

impl Rsyslog {
    /// Writes the configuration. `certificate` and `key` are the server's, `authorities` those of clients, all PEM;
    /// `mode` is rsyslog's: `anon`, or `x509/certvalid` where clients must show a certificate. `driver` is `gtls` or
    /// `ossl`.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn prepare(folder: &Path, driver: &str, mode: &str, certificate: &str, key: &str, authorities: &str) -> Self {
        let folder = folder.join("rsyslog");
        std::fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in [("server.crt", certificate), ("server.key", key), ("ca.crt", authorities)] {
            private(&folder.join(name), text);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], own_address().port()));
        let (at, port) = (folder.display(), address.port());
        let text = format!(
            r#"
global(workDirectory="{at}" maxMessageSize="64k" defaultNetstreamDriver="{driver}"
       defaultNetstreamDriverCAFile="{at}/ca.crt" defaultNetstreamDriverCertFile="{at}/server.crt"
       defaultNetstreamDriverKeyFile="{at}/server.key")
# What was read is written before more is read: nothing waits in memory alone.
main_queue(queue.type="Direct")
module(load="imtcp" streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="{mode}")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%rawmsg%\n")
action(type="omfile" file="{at}/received" template="raw")
"#
        );
        std::fs::write(folder.join("rsyslog.conf"), text).expect("a file");
        Self { folder, address, child: None }
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let output = std::fs::File::options().create(true).append(true).open(self.folder.join("said")).expect("a file");
        let copy = output.try_clone().expect("a second handle");
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(self.folder.join("rsyslog.conf")).arg("-i").arg(self.folder.join("pid"));
        self.child = Some(command.stdin(Stdio::null()).stdout(copy).stderr(output).spawn().expect("rsyslogd runs"));
        until("rsyslogd to listen", || TcpStream::connect(self.address).ok());
    }

    /// Kills it: what it holds in memory is gone.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let _ = std::fs::remove_file(self.folder.join("pid"));
    }

    /// The whole messages that it wrote down, in their order; not one that a kill cut off.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        let bytes = std::fs::read(self.folder.join("received")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n').map(str::to_owned)).collect()
    }

    /// What it said of itself.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("said")).unwrap_or_default()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
