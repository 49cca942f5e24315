//! `${VARIABLE}` in the values of a configuration.

/// Why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("names the environment variable `{0}`, which is not set or is not UTF-8")]
    Unset(String),
    #[error("has `${{` without a name of letters, digits and `_` and a closing `}}`; write `$$` for a `$`")]
    Malformed,
}

/// Replaces each `${NAME}` by the variable's value, once, and each `$$` by `$`. Any other `$` stands for itself, since
/// FHIR operations are written with one.
pub(super) fn expand(value: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (name, after) = after.split_once('}').ok_or(ExpandError::Malformed)?;
            if !is_variable_name(name) {
                return Err(ExpandError::Malformed);
            }
            expanded.push_str(&env(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// IEEE Std 1003.1, 3.216 Name.
fn is_variable_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/srv".to_owned()),
            "TWICE" => Some("${HOME}$$".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once_and_dollars_escaped() {
        for (value, expected) in [
            ("${HOME}/a", "/srv/a"),
            ("a${HOME}${HOME}", "a/srv/srv"),
            ("$${HOME}", "${HOME}"),
            ("$$$$", "$$"),
            ("/Patient/$everything", "/Patient/$everything"),
            ("cost$", "cost$"),
            ("${TWICE}", "${HOME}$$"),
            ("さ${HOME}く", "さ/srvく"),
        ] {
            assert_eq!(expand(value, &env).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        assert_eq!(expand("x${NOPE}", &env), Err(ExpandError::Unset("NOPE".to_owned())));
        for value in ["${HOME", "${}", "${A B}", "${1}", "${A${HOME}}", "${あ}"] {
            assert_eq!(expand(value, &env), Err(ExpandError::Malformed), "{value}");
        }
    }

    proptest! {
        #[test]
        fn escaping_every_dollar_gives_the_text_back(text in "\\PC*") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), &env), Ok(text));
        }
    }
}
