//! A report as text for a person, and as JSON for a program; neither steers a terminal (C15).

use std::io::{self, Write};

use certs::PeerIdentity;
use certs::path::PathRefused;
use policy::{Party, Refusal};
use serde_json::{Value, json};

use super::judge::{Report, Taken, User, Verdict, is_within_clock_error};
use super::meaning::meaning;
use crate::cli::terminal;
use crate::clock::Reading;

/// Writes a block of `name  value` lines.
pub(super) fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let count =
        if report.count > 1 { format!(", certificate {} of {}", report.number, report.count) } else { String::new() };
    writeln!(out, "{}{count}", terminal::text(&report.file))?;
    for (name, value) in lines(report) {
        writeln!(out, "  {name:<10} {}", terminal::text(&value))?;
    }
    Ok(())
}

fn lines(report: &Report) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    match &report.content {
        Err(malformed) => lines.push(("content", format!("no certificate: {malformed}"))),
        Ok(read) => {
            let subject = if read.subject.is_empty() { "(none)" } else { &read.subject };
            lines.push(("subject", subject.to_owned()));
            lines.push(("issuer", read.issuer.clone()));
            lines.push(("serial", read.serial.clone()));
            lines.push(("key", read.key.clone()));
            lines.extend(read.names.iter().map(|(kind, name)| ("name", format!("{kind} `{name}`"))));
            lines.push(("purposes", purposes(report)));
            lines.extend(read.policies.iter().map(|policy| ("policy", policy.clone())));
            lines.push(("validity", validity(read.not_before, read.not_after, &report.now)));
            lines.push(("clock", clock(&report.now)));
        }
    }
    lines.push(("sha256", report.sha256.clone()));
    match &report.device {
        Some(Ok(device)) => lines.push(("device", format!("site `{}`, device `{}`", device.site, device.device))),
        Some(Err(error)) => lines.push(("device", format!("none: {error}"))),
        None => {}
    }
    if let Some(registered) = &report.registry {
        lines.push(("registry", registry(registered)));
    }
    match &report.user {
        Some(Ok(user)) => user_lines(user, &mut lines),
        Some(Err(error)) => lines.push(("user", format!("none by HPKI: {error}"))),
        None => {}
    }
    for door in &report.doors {
        door_lines(door, &report.now, &mut lines);
    }
    if report.doors.is_empty() {
        lines.push(("verdict", "nobody was asked: name a configuration with --config".to_owned()));
    }
    lines
}

fn purposes(report: &Report) -> String {
    let Ok(read) = &report.content else { return String::new() };
    let mut parts = Vec::new();
    if read.is_authority {
        parts.push("a CA's, which issues and opens no door".to_owned());
    }
    match &read.extended_key_usage {
        Some(usages) => parts.extend(usages.iter().cloned()),
        None => parts.push("for anything (no extended key usage)".to_owned()),
    }
    parts.extend(read.key_usage.iter().flatten().map(|usage| (*usage).to_owned()));
    parts.join(", ")
}

fn validity(not_before: i64, not_after: i64, now: &Reading) -> String {
    let seconds = now.unix_ns.div_euclid(1_000_000_000);
    let state = if seconds < not_before {
        format!("not valid for another {}", span(not_before - seconds))
    } else if seconds > not_after {
        format!("ended {} ago", span(seconds - not_after))
    } else {
        format!("valid for another {}", span(not_after - seconds))
    };
    format!("{} to {}: {state}", moment(not_before), moment(not_after))
}

fn clock(now: &Reading) -> String {
    let time = moment(now.unix_ns.div_euclid(1_000_000_000));
    match now.error_ns {
        Some(error) if now.synchronised => {
            format!("{time} here, at most {} ms off, says {}", error.div_ceil(1_000_000), now.source)
        }
        _ => format!("{time} here, and nobody keeps this clock: it may be off by any time"),
    }
}

fn registry(registered: &Result<std::sync::Arc<policy::Subject>, String>) -> String {
    match registered {
        Err(why) if why == Refusal::UserUnregistered.label() => {
            format!("{why}: `sekisho user certificate add SITE/USER FILE` says who the holder is")
        }
        Err(why) => why.clone(),
        Ok(subject) => {
            let user = match &subject.party {
                Party::User { site, user } => format!("user `{site}/{user}`"),
                party @ (Party::Device { .. } | Party::Patient(_)) => {
                    party.user().map_or_else(|| "no user".to_owned(), |user| format!("user `{user}`"))
                }
            };
            let roles: Vec<_> = subject.roles.iter().map(|role| format!("`{role}`")).collect();
            let roles = if roles.is_empty() { "no role".to_owned() } else { format!("roles {}", roles.join(", ")) };
            format!("active, {user}, {roles}")
        }
    }
}

fn user_lines(user: &User, lines: &mut Vec<(&'static str, String)>) {
    let names = user.japanese_names.iter().map(|name| format!(" ({name})")).collect::<String>();
    lines.push(("user", format!("`{}`{names}, number `{}`, by HPKI", user.name, user.number)));
    for role in &user.roles {
        lines.push(match &role.known {
            Some((name, japanese)) => ("role", format!("`{name}` {japanese}, from `{}`", role.text)),
            None => ("role", format!("none from `{}`: the table does not have it", role.text)),
        });
    }
}

fn door_lines(door: &Verdict, now: &Reading, lines: &mut Vec<(&'static str, String)>) {
    let name = &door.listener;
    lines
        .push(("listener", format!("`{name}`{}", if door.is_anchor { ", of which it is a trust anchor" } else { "" })));
    lines.push(("takes", format!("{} and nobody else", door.purpose)));
    lines.push(("revocation", door.revocation.to_owned()));
    match &door.chain {
        Ok(above) => lines.push(("chain", format!("holds: {}", above.join(" < ")))),
        Err(refused) => refused_lines("chain", refused, now, lines),
    }
    match &door.chain_hpki {
        Some(Ok(())) => lines.push(("chain", "holds under HPKI's policy for authentication as well".to_owned())),
        Some(Err(refused)) => refused_lines("by HPKI", refused, now, lines),
        None => {}
    }
    lines.push((
        "verdict",
        match &door.taken {
            Some(Ok(taken)) => taken_for(taken),
            Some(Err(refused)) => format!("refused: {}: {}", refused.refusal.label(), refused.detail),
            None => "a CA's certificate: no client is let in by it".to_owned(),
        },
    ));
}

fn taken_for(taken: &Taken) -> String {
    let who = format!("taken for {} `{}`", taken.kind(), taken.name());
    let roles: Vec<String> = taken
        .roles
        .iter()
        .map(|(role, japanese)| match japanese {
            Some(japanese) => format!("`{role}` {japanese}"),
            None => format!("`{role}`"),
        })
        .collect();
    match (&taken.identity, roles.is_empty()) {
        // What a device's roles are, the registry's line says.
        (PeerIdentity::Device(_) | PeerIdentity::Patient(_), _) => who,
        (PeerIdentity::User { .. }, true) => format!("{who}, no role"),
        (PeerIdentity::User { .. }, false) => format!("{who}, roles {}", roles.join(", ")),
    }
}

fn refused_lines(what: &'static str, refused: &PathRefused, now: &Reading, lines: &mut Vec<(&'static str, String)>) {
    let PathRefused { refusal, subject } = refused;
    let whose = if subject.is_empty() { String::new() } else { format!(" (`{subject}`)") };
    lines.push((what, format!("refused: {}{whose}: {refusal}", refusal.label())));
    lines.push(("", meaning(refusal).to_owned()));
    if is_within_clock_error(refusal, now) {
        lines.push(("", format!("this clock cannot tell: {}", clock(now))));
    }
}

/// Writes one line of JSON.
pub(super) fn json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", terminal::json(&value(report).to_string()))
}

fn value(report: &Report) -> Value {
    let content = report.content.as_ref().map(|read| {
        json!({
            "subject": read.subject, "issuer": read.issuer, "serial": read.serial, "key": read.key,
            "names": read.names.iter().map(|(kind, name)| json!({ "kind": kind, "name": name })).collect::<Vec<_>>(),
            "not_before": moment(read.not_before), "not_after": moment(read.not_after),
            "authority": read.is_authority, "key_usage": read.key_usage,
            "extended_key_usage": read.extended_key_usage, "policies": read.policies,
        })
    });
    json!({
        "file": report.file, "number": report.number, "sha256": report.sha256,
        "certificate": content.as_ref().ok(),
        "malformed": report.content.as_ref().err().map(ToString::to_string),
        "clock": { "time": moment(report.now.unix_ns.div_euclid(1_000_000_000)), "error_ns": report.now.error_ns,
                   "synchronised": report.now.synchronised, "source": report.now.source },
        "device": report.device.as_ref().and_then(|device| device.as_ref().ok()).map(ToString::to_string),
        "device_refused": report.device.as_ref().and_then(|device| device.as_ref().err()),
        "registry": report.registry.as_ref().map(registry),
        "user": report.user.as_ref().and_then(|user| user.as_ref().ok()).map(|user| json!({
            "name": user.name, "number": user.number, "japanese_names": user.japanese_names,
            "roles": user.roles.iter().map(|role| json!({
                "text": role.text,
                "role": role.known.as_ref().map(|(name, _)| name),
                "japanese": role.known.as_ref().map(|(_, japanese)| japanese),
            })).collect::<Vec<_>>(),
        })),
        "user_refused": report.user.as_ref().and_then(|user| user.as_ref().err()),
        "listeners": report.doors.iter().map(door_value).collect::<Vec<_>>(),
    })
}

fn door_value(door: &Verdict) -> Value {
    let refused = |refused: &PathRefused| json!({ "refusal": refused.refusal.label(), "detail": refused.to_string(), "meaning": meaning(&refused.refusal) });
    json!({
        "listener": door.listener,
        "anchor": door.is_anchor,
        "revocation": door.revocation,
        "path": door.chain.as_ref().ok(),
        "path_refused": door.chain.as_ref().err().map(refused),
        "hpki_path_refused": door.chain_hpki.as_ref().and_then(|chain| chain.as_ref().err()).map(refused),
        "purpose": door.purpose,
        "taken_for": door.taken.as_ref().and_then(|taken| taken.as_ref().ok()).map(Taken::name),
        "roles": door.taken.as_ref().and_then(|taken| taken.as_ref().ok()).map(|taken| taken.roles.iter()
            .map(|(role, japanese)| json!({ "role": role, "japanese": japanese })).collect::<Vec<_>>()),
        "refusal": door.taken.as_ref().and_then(|taken| taken.as_ref().err()).map(|refused| refused.refusal.label()),
        "detail": door.taken.as_ref().and_then(|taken| taken.as_ref().err()).map(|refused| refused.detail.clone()),
    })
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s from 1970"), |time| time.to_string())
}

fn span(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
