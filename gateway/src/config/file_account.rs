//! Reading `[account]`.

use std::path::{Path, PathBuf};

use ::policy::account::Profile;

use super::table::Table;
use super::{Account, Hashing, knob};

/// The longest notice, in bytes.
const MAX_NOTICE: usize = 4_096;

/// `state` is the store's folder.
pub(super) fn account(table: &Table<'_>, state: Option<&Path>) -> Option<Account> {
    let profiles = Profile::ALL.iter().map(|profile| (profile.label(), *profile));
    let profile = table.choice("profile", Profile::Mhlw7, &profiles.collect::<Vec<_>>());
    let hashing = Hashing {
        memory_kib: knob::short(table.number("memory_kib", &knob::MEMORY_KIB)),
        passes: knob::short(table.number("passes", &knob::PASSES)),
        lanes: knob::short(table.number("lanes", &knob::LANES)),
    };
    if hashing.memory_kib < 8 * hashing.lanes {
        let why = "it must be at least eight times `account.lanes` (RFC 9106 section 3.1)";
        table.problem("memory_kib", format!("`account.memory_kib` is {}; {why}", hashing.memory_kib));
    }
    let beside = || state.map(|state| state.join("account.key"));
    let key_file: Option<PathBuf> = table.path_optional("key_file").or_else(beside);
    let notice = |key: &'static str| {
        let text = table.text_optional(key)?;
        if text.text.len() > MAX_NOTICE {
            table.refuse(&text, &format!("it must have at most {MAX_NOTICE} bytes"));
        }
        Some(text.text.to_owned())
    };
    let [notice_ja, notice_en] = [notice("notice_ja"), notice("notice_en")];
    let issuer = table.text_or("issuer", "Sekisho");
    if issuer.text.is_empty() || issuer.text.len() > 64 || issuer.text.contains(|c: char| c.is_control() || c == ':') {
        table.refuse(&issuer, "it must be 1 to 64 bytes without `:` and control characters");
    }
    Some(Account {
        profile,
        hashing,
        threads: knob::size(table.number("threads", &knob::HASH_THREADS)),
        queue: knob::size(table.number("queue", &knob::HASH_QUEUE)),
        remember: knob::short(table.number("remember", &knob::REMEMBER)),
        totp_window: table.number("totp_window", &knob::TOTP_WINDOW),
        stage: table.seconds("stage_s", &knob::STAGE_S),
        issuer: issuer.text.to_owned(),
        key_file: key_file?,
        notice_ja,
        notice_en,
    })
}
