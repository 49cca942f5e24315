//! Everything that reads certificates, lists, responses and requests of others, on arbitrary bytes and on real ones with
//! something changed (C7, C9).
//!
//! What must hold: nothing panics and nothing takes long (run.sh gives each input seconds); a path is found for the very
//! bytes that were signed and for no others; a changed list neither revokes nor clears; whoever is named by what was
//! read is named in the bytes.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use certs::hpki::{self, policy_settings};
use certs::issue::{Authority, RequestedKey, Salts};
use certs::path::{
    Crl, CrlSet, Description, PathRefusal, PathRefused, PeerName, Purpose, RevocationMode, Settings, TrustAnchor,
    ValidPath, crl_urls, read_crls, validate,
};
use certs::{Anchors, Profile, ServerIdentity, Staple, TrustDomain, device_of};
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::UnixTime;

macro_rules! der {
    ($name:literal) => {
        include_bytes!(concat!("../certificates/", $name))
    };
}

const ROOT: &[u8] = der!("root.der");
const ISSUING: &[u8] = der!("issuing.der");
const DEVICE: &[u8] = der!("device.der");
const REVOKED: &[u8] = der!("revoked.der");
const SERVER: &[u8] = der!("server.der");
const HPKI_CA: &[u8] = der!("hpkica.der");
const CARD: &[u8] = der!("card.der");
const ROOT_LIST: &[u8] = der!("root.crl");
const LIST: &[u8] = der!("issuing.crl");
const REQUEST: &[u8] = der!("request.der");
const RESPONSE: &[u8] = der!("ocsp.der");
/// What was signed by somebody.
const SIGNED: &[&[u8]] = &[ROOT, ISSUING, DEVICE, REVOKED, SERVER, HPKI_CA, CARD];

/// 2030-01-01: all of them are valid.
const NOW: i64 = 1_893_456_000;

static DOMAIN: LazyLock<TrustDomain> = LazyLock::new(|| TrustDomain::new("sekisho.example").expect("a domain"));
static ANCHOR: LazyLock<TrustAnchor> = LazyLock::new(|| TrustAnchor::from_der(ROOT).expect("an anchor"));
static LISTS: LazyLock<CrlSet> = LazyLock::new(|| {
    CrlSet::default().with("root", list(ROOT_LIST)).expect("room").with("a", list(LIST)).expect("room")
});
static OURS: LazyLock<ServerIdentity> = LazyLock::new(|| {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let authority = Authority::new("fuzz", Duration::from_secs(86_400), now).expect("an authority");
    let issued = authority.issue_server(&["localhost"], Duration::from_secs(86_400), now).expect("a certificate");
    ServerIdentity::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.expose().as_bytes()).expect("a pair")
});
/// Of few rounds, so that opening it takes no time.
static PROTECTED: LazyLock<String> = LazyLock::new(|| {
    let salts = Salts { salt: [1; 16], iv: [2; 16] };
    certs::issue::protect(b"no key at all", "correct horse battery", std::num::NonZeroU32::MIN, salts).expect("sealed")
});

fn list(der: &[u8]) -> Crl {
    Crl::from_der(der).expect("a list")
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 5 {
        0 => read(data),
        1 => chain(data),
        2 => changed_chain(data),
        3 => changed_list(data),
        _ => changed_others(data),
    }
});

fn settings(purpose: Purpose, revocation: RevocationMode) -> Settings {
    let mut settings = Settings::new(purpose, Profile::CryptrecHigh.provider().signature_verification_algorithms.all);
    settings.revocation.mode = revocation;
    settings
}

fn judge(
    leaf: &[u8],
    others: &[&[u8]],
    lists: &CrlSet,
    settings: &Settings,
    peer: Option<&PeerName>,
) -> Result<ValidPath, PathRefused> {
    let outcome = validate(leaf, others, std::slice::from_ref(&*ANCHOR), lists, settings, peer, NOW);
    match &outcome {
        Ok(path) => {
            assert!(SIGNED.contains(&leaf), "a path for what nobody signed");
            assert!(path.issuers().iter().all(|issuer| SIGNED.contains(&issuer.as_ref())), "by what nobody signed");
        }
        Err(refused) => assert!(!refused.to_string().contains(|c: char| c.is_control()), "{refused:?}"),
    }
    outcome
}

/// Every reader on the same bytes.
fn read(bytes: &[u8]) {
    if let Ok(description) = Description::of(bytes) {
        for text in [&description.subject, &description.issuer] {
            assert!(!text.contains(|c: char| c.is_control()), "a name that a terminal obeys: {text:?}");
        }
    }
    if let Ok(user) = hpki::user_of(bytes) {
        let named = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(user.qualifications.iter().all(|text| named(text)), "{:?} is not in it", user.qualifications);
    }
    if let Ok(device) = device_of(bytes, &DOMAIN) {
        let id = DOMAIN.id_of(&device);
        assert!(bytes.windows(id.len()).any(|window| window == id.as_bytes()), "`{id}` is not in it");
    }
    if let Ok(key) = RequestedKey::read(bytes) {
        // Whoever signs a request has its key: only the one request here was signed.
        assert!(bytes == REQUEST || !bytes.starts_with(b"0"), "a request that nobody signed");
        let _ = key.fingerprint();
    }
    let _ = hpki::qualifications(bytes);
    let _ = crl_urls(bytes);
    let _ = TrustAnchor::from_der(bytes);
    let _ = Anchors::from_pem(bytes);
    let _ = certs::pem::certificates(bytes);
    let _ = read_crls(bytes);
    let _ = Crl::from_der(bytes);
    assert!(Staple::from_der(bytes, &OURS).is_err(), "a response that nobody signed for this certificate");
    if let Ok(text) = std::str::from_utf8(bytes)
        && certs::issue::is_protected(text)
        && !has_many_rounds(bytes)
    {
        let _ = certs::issue::open(text, "correct horse battery");
    }
}

/// A file of the operator's own may ask for ten million rounds, which are bounded and slow; none of them tells anything.
/// Whatever has an integer of more than one byte in it is passed over.
fn has_many_rounds(text: &[u8]) -> bool {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let body = text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-----"));
    let digits = body.flatten().filter_map(|letter| LETTERS.iter().position(|known| known == letter));
    let bits: Vec<bool> = digits.flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1 == 1)).collect();
    let der: Vec<u8> = bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect();
    der.windows(2).any(|pair| pair[0] == 2 && pair[1] > 1)
}

/// Bytes in parts, each behind its length: a leaf, other certificates, a list.
fn chain(data: &[u8]) {
    let mut parts = Vec::new();
    let mut rest = data;
    while let [high, low, tail @ ..] = rest {
        let length = (usize::from(*high) * 256 + usize::from(*low)).min(tail.len());
        let (part, behind) = tail.split_at(length);
        parts.push(part);
        rest = behind;
    }
    let Some((leaf, others)) = parts.split_first() else { return };
    let mut lists = LISTS.clone();
    if let Some(Ok(crl)) = others.last().map(|part| Crl::from_der(part)) {
        lists = lists.with("theirs", crl).unwrap_or(lists);
    }
    for purpose in [Purpose::ClientAuth, Purpose::ServerAuth] {
        let mut with_own = others.to_vec();
        with_own.extend([ISSUING, HPKI_CA]);
        let _ = judge(leaf, others, &lists, &settings(purpose, RevocationMode::Prefer), None);
        let _ = judge(leaf, &with_own, &lists, &settings(purpose, RevocationMode::Require), None);
    }
}

/// A device's chain, a server's or a user's, with edits.
fn changed_chain(data: &[u8]) {
    let Some((&which, edits)) = data.split_first() else { return };
    let peer = PeerName::Dns("fhir.internal".to_owned());
    let (leaf, issuer, purpose, peer) = match which % 4 {
        0 => (DEVICE, ISSUING, Purpose::ClientAuth, None),
        1 => (REVOKED, ISSUING, Purpose::ClientAuth, None),
        2 => (SERVER, ISSUING, Purpose::ServerAuth, Some(&peer)),
        _ => (CARD, HPKI_CA, Purpose::ClientAuth, None),
    };
    let mut parts = [leaf.to_vec(), issuer.to_vec()];
    edit(&mut parts, edits);
    let mut settings = settings(purpose, RevocationMode::Prefer);
    if leaf == CARD {
        settings.policies = policy_settings(false);
    }
    let outcome = judge(&parts[0], &[&parts[1]], &LISTS, &settings, peer);
    if parts == [leaf, issuer] {
        assert_eq!(outcome.is_ok(), leaf != REVOKED, "as they were made: {outcome:?}");
    }
    parts.iter().for_each(|part| read(part));
}

/// A list with edits, alone and beside the one that it came from.
fn changed_list(edits: &[u8]) {
    let mut parts = [LIST.to_vec(), ROOT_LIST.to_vec()];
    edit(&mut parts, edits);
    let Ok(changed) = Crl::from_der(&parts[0]) else { return };
    let same = parts[0] == LIST;
    let Ok(alone) = CrlSet::default().with("root", list(ROOT_LIST)).and_then(|set| set.with("a", changed)) else {
        return;
    };
    let required = settings(Purpose::ClientAuth, RevocationMode::Require);
    let of = |leaf: &[u8], lists: &CrlSet| judge(leaf, &[ISSUING], lists, &required, None);
    let good = of(DEVICE, &alone);
    assert_eq!(good.is_ok(), same, "a changed list vouches: {good:?}");
    assert!(of(REVOKED, &alone).is_err());
    let Ok(both) = LISTS.with("b", list_again(&parts[0])) else { return };
    let good = of(DEVICE, &both);
    assert!(good.is_ok(), "a changed list takes a vote from the real one: {good:?}");
    let revoked = of(REVOKED, &both);
    assert!(
        matches!(&revoked, Err(PathRefused { refusal: PathRefusal::Revoked { .. }, .. })),
        "a changed list clears: {revoked:?}"
    );
}

fn list_again(der: &[u8]) -> Crl {
    Crl::from_der(der).expect("it was read before")
}

/// A request, a response, a protected key and an anchor, with edits.
fn changed_others(edits: &[u8]) {
    let mut parts = [REQUEST.to_vec(), RESPONSE.to_vec(), PROTECTED.as_bytes().to_vec(), ROOT.to_vec()];
    edit(&mut parts, edits);
    parts.iter().for_each(|part| read(part));
    if parts[0] == REQUEST {
        assert!(RequestedKey::from_der(&parts[0]).is_ok());
    }
    if let Ok(anchor) = TrustAnchor::from_der(&parts[3]) {
        // Nobody proves an anchor; whatever it says, it costs no more than another.
        let client = settings(Purpose::ClientAuth, RevocationMode::Off);
        let _ = validate(DEVICE, &[ISSUING, ROOT], &[anchor], &LISTS, &client, None, NOW);
    }
}

/// Edits of five bytes each: what and in which part, where (two bytes), how long, and a byte.
fn edit(parts: &mut [Vec<u8>], edits: &[u8]) {
    for edit in edits.chunks_exact(5).take(64) {
        let which = usize::from(edit[0] >> 4) % parts.len();
        let part = &mut parts[which];
        if part.is_empty() {
            continue;
        }
        let at = (usize::from(edit[1]) * 256 + usize::from(edit[2])) % part.len();
        let end = (at + usize::from(edit[3])).min(part.len());
        match edit[0] % 6 {
            0 => part[at] = edit[4],
            1 => part[at] ^= 1 << (edit[4] % 8),
            2 => part.insert(at, edit[4]),
            3 => drop(part.drain(at..end)),
            4 if part.len() < 1 << 16 => {
                let copy = part[at..end].to_vec();
                part.splice(at..at, copy);
            }
            _ => part.truncate(at),
        }
    }
}
