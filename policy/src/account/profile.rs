//! What a password must be, by the guideline that the operator follows (R8).

use super::{Password, Weakness};

/// The longest that a password of [`Profile::Mic2009`] lasts: two months, of which the shortest two follow each other.
const MIC_2009_SECONDS: u64 = 59 * 86_400;

/// Rules for passwords, by the name of the guideline that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// 総務省, 2009 (R8): 8 characters of letters, digits and others, at most two months old.
    Mic2009,
    /// 厚生労働省, version 7: 13 characters, or 8 beside a second factor of the user's own; none that was in use before; no
    /// periodic change.
    Mhlw7,
}

/// What a new password is judged by beside itself.
pub struct Context<'a> {
    /// Names that it must not hold: the account's, the user's, the site's.
    pub names: &'a [&'a str],
    /// Whether the account has a second factor of the user's own. The device's certificate is none: whoever sits there has it.
    pub second_factor: bool,
    /// Whether it is among those that are tried first, in its one spelling; `names` are to be known to it as well.
    pub is_common: &'a dyn Fn(&str) -> bool,
    /// Whether it is one of the account's last ones, the present one among them.
    pub was_used: &'a dyn Fn(&Password) -> bool,
}

impl Profile {
    /// Every profile.
    pub const ALL: &'static [Self] = &[Self::Mic2009, Self::Mhlw7];

    /// The name in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Mic2009 => "mic-2009",
            Self::Mhlw7 => "mhlw-7",
        }
    }

    /// The fewest characters.
    #[must_use]
    pub const fn least_characters(self, second_factor: bool) -> usize {
        match (self, second_factor) {
            (Self::Mic2009, _) | (Self::Mhlw7, true) => 8,
            (Self::Mhlw7, false) => 13,
        }
    }

    /// How long a password lasts, seconds; none: until there is a reason to change it.
    #[must_use]
    pub const fn lasts_s(self) -> Option<u64> {
        match self {
            Self::Mic2009 => Some(MIC_2009_SECONDS),
            Self::Mhlw7 => None,
        }
    }

    /// Judges a new password. What costs most is asked last.
    ///
    /// # Errors
    /// The first [`Weakness`] that it has.
    pub fn check(self, password: &Password, context: &Context<'_>) -> Result<(), Weakness> {
        let least = self.least_characters(context.second_factor);
        if password.characters() < least {
            return Err(Weakness::Short(least));
        }
        if matches!(self, Self::Mic2009) && !password.mixes_kinds() {
            return Err(Weakness::OneKind);
        }
        if context.names.iter().any(|name| password.holds(name)) {
            return Err(Weakness::Name);
        }
        if (context.is_common)(password.expose()) {
            return Err(Weakness::Common);
        }
        if (context.was_used)(password) {
            return Err(Weakness::Reused);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(profile: Profile, text: &str, second_factor: bool) -> Result<(), Weakness> {
        let context = Context {
            names: &["tanaka", "sakura"],
            second_factor,
            is_common: &|text| text.starts_with("password"),
            was_used: &|password| password.expose().ends_with("old"),
        };
        profile.check(&Password::new(text).unwrap(), &context)
    }

    #[test]
    fn each_profile_asks_for_what_its_guideline_asks() {
        let mic = |text| check(Profile::Mic2009, text, false);
        assert_eq!(mic("aB3-efg"), Err(Weakness::Short(8)));
        assert_eq!(mic("abcdefgh1"), Err(Weakness::OneKind));
        assert_eq!(mic("abcdefg-!"), Err(Weakness::OneKind));
        assert_eq!(mic("aB3-efgh"), Ok(()));
        assert_eq!(mic("かきくけこさ3！"), Ok(()), "any script has letters");
        assert_eq!(mic("1-xTANAKAx"), Err(Weakness::Name));
        assert_eq!(mic("password-1"), Err(Weakness::Common));
        assert_eq!(mic("aB3-efgh-old"), Err(Weakness::Reused));
        let mhlw = |text, factor| check(Profile::Mhlw7, text, factor);
        assert_eq!(mhlw("twelve chars", false), Err(Weakness::Short(13)));
        assert_eq!(mhlw("thirteen char", false), Ok(()));
        assert_eq!(mhlw("eight ch", true), Ok(()));
        assert_eq!(mhlw("seven c", true), Err(Weakness::Short(8)));
        assert_eq!(mhlw("the arukas way", false), Err(Weakness::Name));
        assert_eq!(mhlw("password longer", false), Err(Weakness::Common));
        assert_eq!(mhlw("a very long one, old", false), Err(Weakness::Reused));
        assert_eq!(Profile::Mhlw7.lasts_s(), None);
        assert!(Profile::Mic2009.lasts_s().is_some_and(|seconds| seconds <= 62 * 86_400));
    }

    proptest! {
        #[test]
        fn whatever_passes_keeps_every_rule(text in "\\PC{1,20}", factor in any::<bool>()) {
            for profile in Profile::ALL {
                let Ok(password) = Password::new(&text) else { continue };
                if check(*profile, &text, factor).is_ok() {
                    prop_assert!(password.characters() >= profile.least_characters(factor));
                    prop_assert!(*profile != Profile::Mic2009 || password.mixes_kinds());
                    prop_assert!(!password.holds("tanaka") && !password.holds("sakura"));
                }
            }
        }
    }
}
