//! A real web server as a backend: nginx.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::clinic::Prepared;
use crate::process::own_address;
use crate::wait::until;

/// nginx with one page, which says who it is, and `/health`, which says what the file `sick` makes it say. Killed when
/// dropped.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
}

impl Nginx {
    /// Starts one with a folder of this name.
    ///
    /// # Panics
    /// If it does not listen in time.
    #[must_use]
    pub fn start(prepared: &Prepared, name: &str) -> Self {
        let address = own_address();
        let folder = prepared.path(name);
        std::fs::create_dir(&folder).expect("a folder");
        let at = folder.display();
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log off;
               client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
               uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
               server {{
                 listen {address};
                 location = /health {{
                   if (-f {at}/sick) {{ return 503 'status: down'; }}
                   if (-f {at}/odd) {{ return 200 'status: unclear'; }}
                   return 200 'status: up';
                 }}
                 location / {{ return 200 '{name}'; }}
               }}
             }}"
        );
        std::fs::write(folder.join("nginx.conf"), configuration).expect("its configuration");
        let mut server = Self { address, folder, child: None };
        server.revive();
        server
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub fn revive(&mut self) {
        let configuration = self.folder.join("nginx.conf");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(configuration).arg("-p").arg(&self.folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("nginx is installed"));
        until("nginx", || TcpStream::connect(self.address).ok());
    }

    /// Kills it where it runs.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it ran");
            child.wait().expect("its end");
        }
    }

    /// Makes or removes a file: `sick`, `odd`.
    ///
    /// # Panics
    /// If it cannot.
    pub fn set(&self, file: &str, there: bool) {
        let path = self.folder.join(file);
        if there { std::fs::write(path, "") } else { std::fs::remove_file(path) }.expect("the file");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}
