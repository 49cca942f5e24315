//! How often a login may fail, and what follows.

/// Whose attempts count together towards the lockout of an account, and so whom it locks out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockScope {
    /// All attempts at the account: whoever guesses anywhere locks its owner out everywhere.
    Account,
    /// Those of one site: whoever guesses elsewhere locks nobody out here.
    #[default]
    AccountAtSite,
    /// Those of one device.
    AccountAtDevice,
}

impl LockScope {
    /// The name in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::AccountAtSite => "account-at-site",
            Self::AccountAtDevice => "account-at-device",
        }
    }
}

/// So many failures within the window, and then a lockout. `lockout_ns` is at least `window_ns`, so that a lockout never ends
/// before its failures are out of the window; both are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Most failures within the window; at least 1.
    pub failures: u32,
    /// Length of the window.
    pub window_ns: u64,
    /// Length of the lockout that the last of them begins.
    pub lockout_ns: u64,
}

/// The pause after a failure, in which the account at the device gets no answer (R8); nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// After the first failure; 0 is no pause at all.
    pub first_ns: u64,
    /// It doubles with each further failure up to this.
    pub most_ns: u64,
}

impl Pause {
    /// The pause after so many failures of the account at the device, one after another.
    #[must_use]
    pub const fn after(self, failures: u32) -> u64 {
        if failures == 0 || self.first_ns == 0 {
            return 0;
        }
        let doubled = if failures > 63 { u64::MAX } else { self.first_ns.saturating_mul(1 << (failures - 1)) };
        if doubled < self.most_ns { doubled } else { self.most_ns }
    }
}

/// The slower bound on an account over all sites. Beyond it a site may fail `spare` times within the window and no more, so
/// that many sites together cannot guess for long, and still nobody elsewhere locks out a doctor who knows the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Global {
    /// Failures within the window, over all sites, up to which only the site's own bound counts.
    pub failures: u32,
    /// Length of the window, nanoseconds.
    pub window_ns: u64,
    /// Failures of one site that are still taken beyond that; at least 1.
    pub spare: u32,
}

/// All bounds. Times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The pause after a failure.
    pub pause: Pause,
    /// Whose attempts count together.
    pub scope: LockScope,
    /// The lockout of an account.
    pub account: Bound,
    /// The slower bound over all sites; none: there is none.
    pub global: Option<Global>,
    /// Failures of one device, at whatever accounts: whoever tries one password at many accounts.
    pub device: Option<Bound>,
    /// Failures of one site.
    pub site: Option<Bound>,
    /// Failures from one network address.
    pub address: Option<Bound>,
    /// Most accounts whose failures are remembered at once. Those beyond it are refused, and nothing is forgotten.
    pub accounts: usize,
}

impl Limits {
    /// Most accounts that one site's attempts may bring in: a quarter, so that a flood there leaves room for the others.
    #[must_use]
    pub const fn accounts_of_a_site(&self) -> usize {
        self.accounts.div_ceil(4)
    }

    /// How long a failure can matter.
    pub(super) fn memory_ns(&self) -> u64 {
        self.account.window_ns.max(self.global.map_or(0, |global| global.window_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_to_its_bound() {
        let growing = Pause { first_ns: 2, most_ns: 30 };
        let lengths: Vec<u64> = [0, 1, 2, 3, 4, 5, 6, 64, u32::MAX].map(|n| growing.after(n)).to_vec();
        assert_eq!(lengths, [0, 2, 4, 8, 16, 30, 30, 30, 30]);
        let fixed = Pause { first_ns: 5, most_ns: 5 };
        assert_eq!([fixed.after(1), fixed.after(9)], [5, 5]);
        assert_eq!(Pause { first_ns: 0, most_ns: 9 }.after(3), 0);
    }
}
