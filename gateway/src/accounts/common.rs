//! Which passwords are guessed first: zxcvbn's lists and what people make of them.

use policy::account::Password;
use policy::account::{Context, Profile, Weakness};
use zxcvbn::Score;

/// Whether somebody who tries likely passwords first needs fewer than a million: far more than the login guard allows, and the
/// least that NIST SP 800-63B 3.1.1.2 has a list for.
#[must_use]
pub fn is_common(password: &str, names: &[&str]) -> bool {
    zxcvbn::zxcvbn(password, names).score() < Score::Two
}

/// Judges a new password, all of it but what it was before.
///
/// # Errors
/// The [`Weakness`].
pub fn check(
    profile: Profile,
    password: &Password,
    names: &[&str],
    second_factor: bool,
    was_used: &dyn Fn(&Password) -> bool,
) -> Result<(), Weakness> {
    let is_common = |text: &str| is_common(text, names);
    profile.check(password, &Context { names, second_factor, is_common: &is_common, was_used })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guessed_first_is_known() {
        for common in [
            "password",
            "P@ssw0rd",
            "Password123!",
            "qwertyuiop123",
            "1qaz2wsx3edc",
            "aaaaaaaaaaaaaaaa",
            "abcdefghijklm",
            "19800101",
        ] {
            assert!(is_common(common, &[]), "{common}");
        }
        for good in ["correct horse battery staple", "k7#Vq-92pLx", "さくらの 咲く頃に また会おう"] {
            assert!(!is_common(good, &[]), "{good}");
        }
        assert!(is_common("sakuraclinic1", &["sakuraclinic"]));
    }
}
