//! The run as a whole, with a gateway that is none.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Serves nothing, and says whether it was stopped.
struct Idle<'a> {
    stopped: &'a AtomicBool,
    ready: Result<(), String>,
}

impl Running for Idle<'_> {
    fn wait_ready(&mut self) -> Result<(), String> {
        self.ready.clone()
    }

    fn reload(&self) {}

    fn has_ended(&self) -> bool {
        true
    }

    fn stop(self) -> Result<(), String> {
        self.stopped.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn options(dir: &Path, check: bool) -> Options {
    let free = Some("127.0.0.1:0".parse().unwrap());
    Options { dir: dir.to_owned(), check, listen: free, admin: free }
}

#[test]
fn the_backend_answers_before_the_gateway_starts_and_the_end_is_orderly() {
    let dir = tempfile::tempdir().unwrap();
    let (mut out, stopped) = (Vec::new(), AtomicBool::new(false));
    let all = run(&options(dir.path(), false), &mut out, |config| {
        assert_eq!(config, dir.path().join("sekisho.toml"));
        TcpStream::connect(configuration::addresses(dir.path()).unwrap().backend).unwrap();
        Ok(Idle { stopped: &stopped, ready: Ok(()) })
    });
    assert!(all.unwrap());
    assert!(stopped.load(Ordering::SeqCst));
    assert!(String::from_utf8(out).unwrap().contains("curl "));
}

#[test]
fn a_check_without_a_gateway_fails_in_every_line() {
    let dir = tempfile::tempdir().unwrap();
    let (mut out, stopped) = (Vec::new(), AtomicBool::new(false));
    let all = run(&options(dir.path(), true), &mut out, |_| Ok(Idle { stopped: &stopped, ready: Ok(()) }));
    let text = String::from_utf8(out).unwrap();
    assert!(!all.unwrap(), "{text}");
    assert!(text.lines().all(|line| line.starts_with("FAIL  ")), "{text}");
    assert!(stopped.load(Ordering::SeqCst));
}

#[test]
fn a_gateway_that_does_not_start_or_get_ready_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (mut out, stopped) = (Vec::new(), AtomicBool::new(false));
    let error = run(&options(dir.path(), false), &mut out, |_| Err::<Idle<'_>, _>("no policy".to_owned()));
    assert_eq!(error.unwrap_err().to_string(), "the gateway: no policy");
    let late = || Idle { stopped: &stopped, ready: Err("not ready within 10 s".to_owned()) };
    let error = run(&options(dir.path(), false), &mut out, |_| Ok(late()));
    assert!(error.unwrap_err().to_string().contains("not ready"));
    assert!(stopped.load(Ordering::SeqCst));
    assert!(out.is_empty());
}
