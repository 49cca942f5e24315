//! What `/livez`, `/readyz` and `/startupz` say.

use std::fmt::Write as _;

/// One named condition: good, or the reason why not.
pub type Condition = (&'static str, Result<(), String>);

/// Asks for the conditions when somebody wants to know.
pub struct Health {
    /// Conditions under which the gateway takes requests.
    pub readiness: Box<dyn Fn() -> Vec<Condition>>,
}

/// The conditions as they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict(Vec<Condition>);

impl Health {
    /// The control runtime answers.
    #[must_use]
    pub fn live(&self) -> Verdict {
        Verdict(vec![("control", Ok(()))])
    }

    /// The gateway takes requests.
    #[must_use]
    pub fn ready(&self) -> Verdict {
        Verdict((self.readiness)())
    }

    /// The gateway has started: the page is only served once it has.
    #[must_use]
    pub fn started(&self) -> Verdict {
        Verdict(vec![("start", Ok(()))])
    }
}

impl Verdict {
    /// Every condition is good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|(_, state)| state.is_ok())
    }

    /// `ok` or what is not; with `verbose` every condition.
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
        let verdict = Verdict(vec![("clock", Ok(())), ("audit", Err("disk full".into()))]);
        assert!(!verdict.is_good());
        assert_eq!(verdict.page(false), "[-] audit: disk full\n");
        assert_eq!(verdict.page(true), "[+] clock ok\n[-] audit: disk full\n");
        assert_eq!(Verdict(vec![("clock", Ok(()))]).page(false), "ok\n");
    }
}
