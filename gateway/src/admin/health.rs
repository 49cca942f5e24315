//! What `/livez`, `/readyz` and `/startupz` say.

use std::fmt::Write as _;

/// One named condition: good, or the reason why not.
pub type Condition = (&'static str, Result<(), String>);

/// Asks for the conditions when somebody wants to know.
pub struct Health {
    /// Conditions under which the gateway takes requests.
    pub readiness: Box<dyn Fn() -> Vec<Condition>>,
    /// What will be a condition, or is a pity, and does not keep requests out: one line each.
    pub warnings: Box<dyn Fn() -> Vec<String>>,
}

/// The conditions as they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict(Vec<Condition>, Vec<String>);

impl Health {
    /// The control runtime answers.
    #[must_use]
    pub fn live(&self) -> Verdict {
        Verdict(vec![("control", Ok(()))], Vec::new())
    }

    /// The gateway takes requests.
    #[must_use]
    pub fn ready(&self) -> Verdict {
        Verdict((self.readiness)(), (self.warnings)())
    }

    /// The gateway has started: the page is only served once it has.
    #[must_use]
    pub fn started(&self) -> Verdict {
        Verdict(vec![("start", Ok(()))], Vec::new())
    }
}

impl Verdict {
    /// Every condition is good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|(_, state)| state.is_ok())
    }

    /// `ok` or what is not; with `verbose` every condition and every warning.
    #[must_use]
    pub fn page(&self, verbose: bool) -> String {
        let mut page = String::new();
        for (name, state) in &self.0 {
            // Writing to a string does not fail.
            let _ = match state {
                Ok(()) if verbose => writeln!(page, "[+] {name} ok"),
                Ok(()) => Ok(()),
                Err(reason) => writeln!(page, "[-] {name}: {reason}"),
            };
        }
        for warning in self.1.iter().filter(|_| verbose) {
            let _ = writeln!(page, "[!] {}", warning.escape_debug());
        }
        if self.is_good() {
            page.push_str("ok\n");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_condition_is_named() {
        let bad = Verdict(vec![("clock", Ok(())), ("audit", Err("disk full".into()))], Vec::new());
        assert!(!bad.is_good());
        assert_eq!(bad.page(false), "[-] audit: disk full\n");
        assert_eq!(bad.page(true), "[+] clock ok\n[-] audit: disk full\n");
        assert_eq!(Verdict(vec![("clock", Ok(()))], Vec::new()).page(false), "ok\n");
    }

    #[test]
    fn a_warning_is_told_to_who_asks_and_keeps_nobody_out() {
        let verdict = Verdict(vec![("clock", Ok(()))], vec!["a certificate ends\u{1b}".to_owned()]);
        assert!(verdict.is_good());
        assert_eq!(verdict.page(false), "ok\n");
        assert_eq!(verdict.page(true), "[+] clock ok\n[!] a certificate ends\\u{1b}\nok\n");
    }
}
