//! R32: the login page in a real browser.

#[test]
fn placeholder() {}
