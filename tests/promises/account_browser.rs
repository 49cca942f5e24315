//! R32: the login page in a real browser (Chromium), in Japanese, without scripts, by keyboard alone, and as assistive technology
//! is told of it.

use std::process::Command;

use gateway_tests::{DOCTOR, repository};

use crate::account::{Browser, GOOD, TANAKA, clinic, first_password, start};

#[test]
fn a_person_logs_in_by_keyboard_in_a_real_browser() {
    let clinic = start(clinic());
    let first = first_password(&clinic, TANAKA);
    let browser = Browser::new(&clinic, DOCTOR);
    let pictures = clinic.prepared.path("pictures");
    std::fs::create_dir(&pictures).expect("a folder");
    let output = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .arg(repository().join("tests/login_page.py"))
        .args([&browser.origin(), &browser.files[0], &browser.files[1], &first, GOOD])
        .arg(&pictures)
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}\n{said}\nThe gateway said:\n{}", clinic.gateway.said());
    for told in [
        "heading \"ログイン\" [level=1]",
        "textbox \"利用者ID\"",
        "textbox \"パスワード\"",
        "button \"ログイン\"",
        "- alert:",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
}
