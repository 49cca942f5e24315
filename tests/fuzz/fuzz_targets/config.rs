//! The configuration on arbitrary text (C17).
//!
//! What must hold: it is taken or refused with at least one message; messages cannot mislead a terminal and name a
//! place that the text has; what is taken is taken alike a second time.
#![no_main]

use std::path::Path;

use gateway::config::{Config, ConfigError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let environment = |name: &str| (name == "NAME").then(|| "value".to_owned());
    let parse = || Config::parse(text, Path::new("/base"), &environment);
    match parse() {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.services.is_empty() && !config.routes.is_empty());
            assert!(policy::route::RouteTable::new(config.routes.clone()).is_ok());
            assert_eq!(parse().ok().as_ref(), Some(&config));
        }
        Err(ConfigError::Unreadable { .. }) => panic!("nothing was read"),
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty());
            let lines = text.split('\n').count();
            for problem in problems {
                let shown = problem.to_string();
                assert!(!shown.chars().any(char::is_control), "{shown:?}");
                assert!(!problem.message.is_empty());
                if let Some(position) = problem.position {
                    assert!((1..=lines).contains(&position.line) && position.column >= 1, "{shown:?}");
                }
            }
        }
    }
});
