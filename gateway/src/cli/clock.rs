//! `sekisho clock`: how far the clock may be off, and who says so, in words (R7).

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use super::{DEFAULT_CONFIG, terminal};
use crate::clock::estimate::{Interval, SourceReport, Standing, Vouching};
use crate::clock::{Asked, Asking, Leap, once};
use crate::config::{self, Config};

/// The arguments of `sekisho clock`.
#[derive(Debug, clap::Args)]
pub(super) struct ClockArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Asks every source once and tells. True if the clock does not alarm, which is exit code 0; otherwise it is 1.
pub(super) async fn run(args: &ClockArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let settings = Config::load(&args.config)?.clock;
    let asking = Asking::load(&settings)?;
    let asked = once(&asking).await.context("the kernel's clock cannot be read")?;
    for line in tell(&asked, &settings) {
        writeln!(out, "{}", terminal::text(&line))?;
    }
    out.flush()?;
    Ok(is_good(&asked, &settings))
}

fn is_good(asked: &Asked, settings: &config::Clock) -> bool {
    asked.estimate.error_ns().is_some_and(|error| u128::from(error) <= settings.max_error.as_nanos())
}

fn tell(asked: &Asked, settings: &config::Clock) -> Vec<String> {
    let estimate = &asked.estimate;
    let mut lines = Vec::new();
    match (estimate.interval, estimate.error_ns()) {
        (Some(interval), Some(error)) => {
            lines.push(format!("UTC is {} this machine's clock.", against(interval)));
            let error_ms = u128::from(error).div_ceil(1_000_000);
            let (warn, max) = (settings.warn_error.as_millis(), settings.max_error.as_millis());
            lines.push(if u128::from(error) > settings.max_error.as_nanos() {
                format!("That may be {error_ms} ms off, more than `clock.max_error_ms` ({max}): the clock alarms.")
            } else if u128::from(error) > settings.warn_error.as_nanos() {
                format!("That may be {error_ms} ms off, more than `clock.warn_error_ms` ({warn}): a warning.")
            } else {
                format!("The clock is good: at most {error_ms} ms off, and {warn} would be worth a warning.")
            });
        }
        _ if estimate.sources.iter().any(|source| source.standing == Standing::Disagrees) => {
            lines.push("The sources contradict each other, and no majority agrees: the clock alarms.".to_owned());
        }
        _ => lines.push("Nobody vouches for the clock: it alarms.".to_owned()),
    }
    if estimate.vouching != Vouching::Nobody {
        lines.push(format!("Records say: `{}`.", estimate.vouching.label()));
    }
    lines.extend(estimate.leap.map(|leap| match leap {
        Leap::Insert => "A leap second is to be inserted at the end of the month.".to_owned(),
        Leap::Delete => "A leap second is to be left out at the end of the month.".to_owned(),
    }));
    lines.push(String::new());
    for source in &estimate.sources {
        let error = asked.errors.iter().find(|(name, _)| *name == source.name).map(|(_, error)| error.to_string());
        lines.push(tell_source(source, error));
    }
    lines
}

fn tell_source(source: &SourceReport, error: Option<String>) -> String {
    let SourceReport { name, standing, interval } = source;
    let says = interval.map(|interval| format!("UTC is {}", against(interval)));
    let rest = match (standing, says) {
        (Standing::Silent, _) => error.unwrap_or_else(|| "nothing heard".to_owned()),
        (Standing::Unsynchronised, _) => "does not know the time itself".to_owned(),
        (Standing::Unused, says) => {
            format!("not asked, since chronyd speaks for it{}", says.map(|s| format!(" ({s})")).unwrap_or_default())
        }
        (Standing::Agrees | Standing::Disagrees, says) => says.unwrap_or_default(),
    };
    format!("{name:<28} {:<15} {rest}", standing.label())
}

/// An interval in words: `12.0 ms behind to 3.1 ms ahead of`.
fn against(interval: Interval) -> String {
    let side = |ns: i64| {
        let (whole, tenth) = (ns.unsigned_abs() / 1_000_000, ns.unsigned_abs() / 100_000 % 10);
        format!("{whole}.{tenth} ms {}", if ns < 0 { "behind" } else { "ahead" })
    };
    format!("{} to {} of", side(interval.earliest_ns), side(interval.latest_ns))
}
