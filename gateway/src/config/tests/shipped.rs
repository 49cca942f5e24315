//! Runbook, alerts and units are about the gateway that is.

use std::collections::BTreeSet;

use super::*;

const RUNBOOK: &str = include_str!("../../../RUNBOOK.md");
const ALERTS: &str = include_str!("../../../../deploy/alerts.yml");

fn runbook_sections() -> Vec<(&'static str, &'static str)> {
    RUNBOOK.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect()
}

#[test]
fn the_runbook_has_one_section_for_each_refusal() {
    for refusal in policy::Refusal::ALL {
        let texts: Vec<_> = runbook_sections().into_iter().filter(|(title, _)| *title == refusal.label()).collect();
        assert_eq!(texts.len(), 1, "## {refusal}");
        let blame = match refusal.blame() {
            policy::Blame::Peer => "*Peer.* ",
            policy::Blame::Operator => "*Operator.* ",
            policy::Blame::Service => "*Service.* ",
        };
        assert!(texts[0].1.starts_with(blame) && texts[0].1.len() > 80, "## {refusal}: {}", texts[0].1);
    }
}

#[test]
fn the_runbook_has_a_section_for_each_alert_and_no_other() {
    let anchors: BTreeSet<&str> =
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("runbook: gateway/RUNBOOK.md#")).collect();
    let alerts = ALERTS.matches("- alert: ").count();
    assert_eq!(ALERTS.matches("runbook: ").count(), alerts);
    assert_eq!(ALERTS.matches("severity: page").count() + ALERTS.matches("severity: ticket").count(), alerts);
    let titles: BTreeSet<&str> = runbook_sections().into_iter().map(|(title, _)| title).collect();
    let labels: BTreeSet<&str> = policy::Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
    // What an operator meets without an alert of its own: `gateway-down` fires, or a device asks for a certificate, or
    // `sekisho audit ship` says so, whose journal is watched and which has no metrics.
    let others = BTreeSet::from(["start-refused", "registry-rolled-back", "audit-rolled-back", "enrolment"]);
    let shipping = BTreeSet::from(["audit-ship-lags", "copy-differs", "witness-conflict", "witness-unavailable"]);
    assert_eq!(titles, &(&(&anchors | &labels) | &others) | &shipping);
}

/// The value of a setting in a unit file, the last one where there are several.
fn setting<'u>(unit: &'u str, name: &str) -> &'u str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.next_back().unwrap_or_else(|| panic!("{name} is missing"))
}

#[test]
fn the_unit_and_the_shipped_file_agree() {
    let unit = include_str!("../../../../deploy/systemd/sekisho.service");
    let socket = include_str!("../../../../deploy/systemd/sekisho-clinics.socket");
    let config = parse(SHIPPED).unwrap();
    let stop: u64 = setting(unit, "TimeoutStopSec").parse().unwrap();
    assert!(stop > config.shutdown.drain.as_secs() + 5, "systemd would kill a gateway that drains");
    assert_eq!(setting(socket, "FileDescriptorName"), config.listeners[0].name);
    assert_eq!(config.store.file.parent().unwrap(), Path::new("/var/lib").join(setting(unit, "StateDirectory")));
    assert_eq!(config.identity.key_file.parent(), config.store.file.parent());
    assert_eq!(config.audit.directory, Path::new("/var/log").join(setting(unit, "LogsDirectory")));
    // Without a capability a port below 1024 cannot be bound.
    assert_eq!(setting(unit, "CapabilityBoundingSet"), "");
    assert!(config.listeners[0].address.port() >= 1024);
    assert!(setting(unit, "User") != "root");
    // The clock is read by these calls, which `@system-service` lacks.
    assert!(setting(unit, "SystemCallFilter").contains("adjtimex clock_adjtime"));
    assert!(!unit.contains("\nProtectClock=yes"));
}
