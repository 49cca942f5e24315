//! Limits, CRLs and mutations. The rules themselves are proved by the suites in `certs/tests`.

use super::*;
use crate::Profile;
use crate::testing::{NOW, YEAR, later};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

pub(super) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(super) fn now() -> i64 {
    i64::try_from(NOW.as_secs()).unwrap()
}

pub(super) fn day(days: i64) -> i64 {
    now() + days * 86_400
}

/// A CRL of issue `number`, valid from day to day, of revoked serial numbers.
pub(super) fn crl(ca: &Ca, number: u64, days: (i64, i64), revoked: &[u64]) -> Vec<u8> {
    let at = |days| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(day(days)).unwrap());
    let entry = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: at(-1),
        reason_code: Some(rcgen::RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: at(days.0),
        next_update: at(days.1),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().der().to_vec()
}

pub(super) fn set(lists: &[&[u8]]) -> CrlSet {
    lists
        .iter()
        .enumerate()
        .fold(CrlSet::default(), |set, (index, der)| set.with(&index.to_string(), Crl::from_der(der).unwrap()).unwrap())
}

pub(super) fn params(name: &str, authority: bool) -> CertificateParams {
    let mut params = crate::issue::params(NOW, YEAR, later(YEAR)).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    } else {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    }
    params
}

pub(super) fn root(name: &str) -> Ca {
    CertifiedIssuer::self_signed(params(name, true), KeyPair::generate().unwrap()).unwrap()
}

pub(super) fn below(name: &str, issuer: &Ca) -> Ca {
    CertifiedIssuer::signed_by(params(name, true), KeyPair::generate().unwrap(), issuer).unwrap()
}

pub(super) fn leaf(serial: u64, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = params("leaf", false);
    params.serial_number = Some(SerialNumber::from(serial));
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().to_vec()
}

pub(super) fn settings() -> Settings {
    Settings::new(Purpose::ClientAuth, Profile::CryptrecHigh.provider().signature_verification_algorithms.all)
}

pub(super) fn anchor(ca: &Ca) -> TrustAnchor {
    TrustAnchor::from_der(ca.der()).unwrap()
}

fn with_crls(leaf: &[u8], ca: &Ca, crls: &CrlSet, mode: RevocationMode, at: i64) -> Result<ValidPath, PathRefusal> {
    let mut settings = settings();
    settings.revocation = RevocationSettings { mode, grace: 3_600, ..RevocationSettings::default() };
    validate(leaf, &[], &[anchor(ca)], crls, &settings, None, at).map_err(|refused| refused.refusal)
}

#[test]
fn revoked_good_and_unknown_are_three_things() {
    let ca = root("root");
    let (good, bad) = (leaf(7, &ca, |_| ()), leaf(8, &ca, |_| ()));
    let list = crl(&ca, 1, (-2, 5), &[8]);
    let crls = set(&[&list]);
    let (require, prefer) = (RevocationMode::Require, RevocationMode::Prefer);
    let path = with_crls(&good, &ca, &crls, require, now()).unwrap();
    // The answer holds until the list's grace is over, well before the certificate ends.
    assert_eq!(path.validity().1, day(5) + 3_600);
    let revoked = PathRefusal::Revoked { when: day(-1), reason: RevocationReason::KeyCompromise };
    assert_eq!(revoked.to_string(), "it was revoked on 2025-12-31T00:00:00Z: keyCompromise");
    assert_eq!(with_crls(&bad, &ca, &crls, require, now()), Err(revoked.clone()));
    assert_eq!(with_crls(&bad, &ca, &crls, prefer, now()), Err(revoked.clone()));
    assert!(with_crls(&bad, &ca, &crls, RevocationMode::Off, now()).is_ok());
    // Within the grace, and after it. A list that is out of date still tells whom it revoked.
    assert!(with_crls(&good, &ca, &crls, require, day(5) + 3_600).is_ok());
    let late = day(5) + 3_601;
    let unknown = with_crls(&good, &ca, &crls, require, late).unwrap_err();
    assert_eq!(unknown, PathRefusal::RevocationUnknown("its CRL is out of date"));
    assert!(with_crls(&good, &ca, &crls, prefer, late).is_ok());
    assert_eq!(with_crls(&bad, &ca, &crls, prefer, late), Err(revoked));
    let none = with_crls(&good, &ca, &CrlSet::default(), require, now()).unwrap_err();
    assert_eq!(none, PathRefusal::RevocationUnknown("there is no CRL of its issuer"));
}

/// C9: what cannot be used changes nothing.
#[test]
fn a_bad_list_never_empties_the_set() {
    let ca = root("root");
    let bad = leaf(8, &ca, |_| ());
    let list = crl(&ca, 5, (-2, 5), &[8]);
    let crls = set(&[&list]);
    let is_revoked = |crls: &CrlSet| {
        matches!(with_crls(&bad, &ca, crls, RevocationMode::Prefer, now()), Err(PathRefusal::Revoked { .. }))
    };
    assert!(is_revoked(&crls));
    // An older list from the same place: a replay.
    let older = Crl::from_der(&crl(&ca, 4, (-2, 5), &[])).unwrap();
    assert_eq!(crls.with("0", older).unwrap_err(), CrlError::Older);
    // An older list from another place does not count.
    let older = Crl::from_der(&crl(&ca, 4, (-3, 5), &[])).unwrap();
    assert!(is_revoked(&crls.with("1", older).unwrap()));
    // A newer one of the same name, signed by somebody else.
    let forged = Crl::from_der(&crl(&root("root"), 9, (-1, 5), &[])).unwrap();
    assert!(is_revoked(&crls.with("1", forged).unwrap()));
    // The true list with one bit of its entries changed: nobody is cleared by it.
    let mut changed = list.clone();
    let at = changed.windows(3).position(|window| window == [2, 1, 8]).unwrap();
    changed[at + 2] = 9;
    let changed = Crl::from_der(&changed).unwrap();
    assert!(is_revoked(&crls.with("1", changed).unwrap()));
    assert!(!is_revoked(&crls.without("0")));
    // The issuer's newer list may clear it.
    let newer = Crl::from_der(&crl(&ca, 6, (-1, 5), &[])).unwrap();
    let newer = crls.with("0", newer).unwrap();
    assert!(!is_revoked(&newer) && newer.version() != crls.version());
}

/// The issuing CA's list stands in a file, and nobody has shown the CA yet, or somebody has. Then another list takes the
/// file's place.
#[test]
fn whoever_writes_a_file_but_cannot_sign_clears_nobody() {
    let top = root("top");
    let middle = below("issuing", &top);
    let end = leaf(8, &middle, |_| ());
    let mut settings = settings();
    settings.revocation.mode = RevocationMode::Prefer;
    let judge = |crls: &CrlSet| validate(&end, &[middle.der()], &[anchor(&top)], crls, &settings, None, now());
    let list = |ca: &Ca, number, since, serials: &[u64]| Crl::from_der(&crl(ca, number, (since, 5), serials)).unwrap();
    for proved_first in [false, true] {
        let true_list = set(&[]).with("file", list(&middle, 1, -3, &[8])).unwrap();
        if proved_first {
            assert!(matches!(judge(&true_list).unwrap_err().refusal, PathRefusal::Revoked { .. }));
        }
        let mut forged = true_list.clone();
        for number in 2..5 {
            let other = list(&below("issuing", &root("other")), number, -2, &[]);
            forged = forged.with("file", other).unwrap();
            assert!(matches!(judge(&forged).unwrap_err().refusal, PathRefusal::Revoked { .. }), "{proved_first}");
        }
        // The CA itself may clear him, and then only its word counts.
        let cleared = forged.with("file", list(&middle, 9, -1, &[])).unwrap();
        assert!(judge(&cleared).is_ok());
        let older = list(&middle, 8, -1, &[]);
        assert_eq!(cleared.with("file", older).unwrap_err(), CrlError::Older);
    }
}

/// A list is proved by its issuer's certificate before it is used, where that is at hand.
#[test]
fn a_list_is_proved_by_the_authorities_at_hand() {
    let (ca, namesake, other) = (root("root"), root("root"), root("other"));
    let list = Crl::from_der(&crl(&ca, 5, (-2, 5), &[8])).unwrap();
    let prove = |list: &Crl, by: &[&[u8]]| list.prove(by.iter().copied(), settings().algorithms);
    assert_eq!(prove(&list, &[other.der(), b"garbage"]), Ok(None));
    assert_eq!(prove(&list, &[other.der(), namesake.der()]), Err(CrlError::Forged));
    assert!(!list.is_proved() && list.is_issued_by(namesake.der()) && !list.is_issued_by(other.der()));
    assert_eq!(prove(&list, &[namesake.der(), ca.der()]), Ok(Some(())));
    assert!(list.is_proved());
    assert_eq!(list.issuer_name(), "CN=root");
}

/// Somebody below the same anchor, or below another one, calls himself as the issuer does and clears the revoked.
#[test]
fn a_namesake_signs_no_list() {
    let (top, other) = (root("top"), root("other"));
    let middle = below("issuing", &top);
    let end = leaf(8, &middle, |_| ());
    let between = below("elsewhere", &top);
    let namesakes = [below("issuing", &between), below("issuing", &other)];
    for namesake in &namesakes {
        let lists = [crl(&middle, 1, (-3, 5), &[8]), crl(namesake, 2, (-1, 5), &[])];
        let crls = set(&[&lists[0], &lists[1]]);
        let others: [&[u8]; 4] = [middle.der(), between.der(), namesakes[0].der(), namesakes[1].der()];
        let mut settings = settings();
        settings.revocation.mode = RevocationMode::Prefer;
        let anchors = [anchor(&top), anchor(&other)];
        let refused = validate(&end, &others, &anchors, &crls, &settings, None, now()).unwrap_err();
        assert!(matches!(refused.refusal, PathRefusal::Revoked { .. }), "{refused}");
    }
}

/// A list for tomorrow is not today's, and the answer does not outlive today.
#[test]
fn a_list_of_tomorrow_bounds_the_answer() {
    let ca = root("root");
    let end = leaf(8, &ca, |_| ());
    let crls = set(&[&crl(&ca, 1, (-2, 5), &[]), &crl(&ca, 2, (1, 5), &[8])]);
    for mode in [RevocationMode::Prefer, RevocationMode::Require] {
        assert_eq!(with_crls(&end, &ca, &crls, mode, now()).unwrap().validity().1, day(1) - 1);
        let tomorrow = with_crls(&end, &ca, &crls, mode, day(1)).unwrap_err();
        assert!(matches!(tomorrow, PathRefusal::Revoked { .. }), "{tomorrow}");
    }
}

/// C9, RUSTSEC-2026-0104: a list is read before anybody knows who signed it.
#[test]
fn garbage_is_no_list() {
    let ca = root("root");
    let list = crl(&ca, 5, (-2, 5), &[8]);
    for end in 0..list.len() {
        assert!(Crl::from_der(&list[..end]).is_err(), "{end}");
    }
    assert!(Crl::from_der(&[&list[..], &[0]].concat()).is_err());
    assert_eq!(Crl::from_der(&vec![0; MAX_CRL_BYTES + 1]).unwrap_err(), CrlError::TooLarge);
}

#[test]
fn a_long_list_is_looked_up_and_its_signature_checked_once() {
    let ca = root("root");
    let serials: Vec<u64> = (1_000..21_000).collect();
    let crls = set(&[&crl(&ca, 1, (-2, 5), &serials)]);
    let (good, bad) = (leaf(7, &ca, |_| ()), leaf(20_999, &ca, |_| ()));
    assert!(with_crls(&good, &ca, &crls, RevocationMode::Require, now()).is_ok());
    assert!(matches!(with_crls(&bad, &ca, &crls, RevocationMode::Require, now()), Err(PathRefusal::Revoked { .. })));
    let list = crls.iter().next().unwrap().1;
    assert_eq!(list.len(), 20_000);
    assert!(list.was_verified_by(anchor(&ca).key().unwrap().whole));
}

#[test]
fn limits_have_names() {
    let ca = root("root");
    let end = leaf(1, &ca, |_| ());
    let refusal = |others: &[&[u8]], change: fn(&mut Limits)| {
        let mut settings = settings();
        change(&mut settings.limits);
        validate(&end, others, &[anchor(&ca)], &CrlSet::default(), &settings, None, now()).unwrap_err().refusal
    };
    let many: Vec<&[u8]> = std::iter::repeat_n(&end[..], 16).collect();
    assert_eq!(refusal(&many, |_| ()), PathRefusal::TooMany);
    assert_eq!(refusal(&[], |limits| limits.certificate_bytes = 100), PathRefusal::TooLarge);
    assert_eq!(refusal(&[], |limits| limits.signatures = 0), PathRefusal::TooMuchWork);
    assert_eq!(refusal(&[], |limits| limits.steps = 0), PathRefusal::TooMuchWork);
    let mut chain = vec![root("top")];
    for level in 0..4 {
        let next = below(&format!("level {level}"), &chain[level]);
        chain.push(next);
    }
    let end = leaf(1, &chain[4], |_| ());
    let others: Vec<&[u8]> = chain[1..].iter().map(|ca| ca.der().as_ref()).collect();
    let depth = |depth: usize| {
        let mut settings = settings();
        settings.limits.depth = depth;
        validate(&end, &others, &[anchor(&chain[0])], &CrlSet::default(), &settings, None, now())
    };
    assert_eq!(depth(4).unwrap().issuers().len(), 4);
    assert_eq!(depth(3).unwrap_err().refusal, PathRefusal::TooDeep);
}

/// A crowd of CAs of one name that all sign each other: the budget ends it, soon.
#[test]
fn a_mesh_of_authorities_costs_a_bounded_time() {
    let keys: Vec<KeyPair> = (0..4).map(|_| KeyPair::generate().unwrap()).collect();
    let mut others = Vec::new();
    for subject in &keys {
        for signer in &keys {
            let issuer = rcgen::Issuer::new(params("mesh", true), signer);
            others.push(params("mesh", true).signed_by(subject, &issuer).unwrap().der().to_vec());
        }
    }
    others.truncate(15);
    let issuer = rcgen::Issuer::new(params("mesh", true), &keys[0]);
    let end = params("leaf", false).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    let started = Instant::now();
    let refused = validate(end.der(), &others, &[anchor(&root("other"))], &CrlSet::default(), &settings(), None, now());
    assert!(matches!(refused.unwrap_err().refusal, PathRefusal::UnknownIssuer | PathRefusal::TooMuchWork));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// C9: certificates that do not belong to the chain, unreadable ones too, change nothing.
#[test]
fn strangers_in_the_chain_change_nothing() {
    let ca = root("root");
    let end = leaf(1, &ca, |_| ());
    let (other, same_name) = (root("other"), root("root"));
    let others: [&[u8]; 5] = [b"", &[0x30, 0x80], other.der(), same_name.der(), &end];
    assert!(validate(&end, &others, &[anchor(&ca)], &CrlSet::default(), &settings(), None, now()).is_ok());
    let forged = validate(&end, &[ca.der()], &[anchor(&same_name)], &CrlSet::default(), &settings(), None, now());
    assert_eq!(forged.unwrap_err().refusal, PathRefusal::UnknownIssuer);
}

#[test]
fn the_first_and_the_last_second_count() {
    let ca = root("root");
    let end = leaf(1, &ca, |_| ());
    let at = |now| validate(&end, &[], &[anchor(&ca)], &CrlSet::default(), &settings(), None, now);
    let (since, until) = at(now()).unwrap().validity();
    assert!(at(since).is_ok() && at(until).is_ok());
    assert_eq!(at(since - 1).unwrap_err().refusal, PathRefusal::NotYetValid { not_before: since });
    assert_eq!(at(until + 1).unwrap_err().refusal, PathRefusal::Expired { not_after: until });
}

/// A list made by hand: delta where `base` is there; an entry without a reason is `removeFromCRL`.
fn by_hand(ca: &Ca, number: u8, base: Option<u8>, days: (i64, i64), entries: &[(u8, Option<u8>)]) -> Vec<u8> {
    use crate::issue::der::{octets, sequence, tlv};
    use rcgen::SigningKey as _;
    const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let at = |days: i64| {
        let time = Duration::from_secs(u64::try_from(day(days)).unwrap());
        let text = crate::rfc3339(rustls::pki_types::UnixTime::since_unix_epoch(time));
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        tlv(0x18, &[format!("{digits}Z").as_bytes()])
    };
    let extension = |last: u8, critical: bool, value: &[u8]| {
        let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
        sequence(&[&[6, 3, 0x55, 0x1d, last], critical, &octets(value)])
    };
    let entry = |(serial, reason): &(u8, Option<u8>)| {
        let reason = extension(21, false, &[0x0a, 1, reason.unwrap_or(8)]);
        sequence(&[&[2, 1, *serial], &at(-1), &sequence(&[&reason])])
    };
    let listed: Vec<u8> = entries.iter().flat_map(entry).collect();
    let listed = if listed.is_empty() { Vec::new() } else { sequence(&[&listed]) };
    let base = base.map(|base| extension(27, true, &[2, 1, base])).unwrap_or_default();
    let extensions = tlv(0xa0, &[&sequence(&[&extension(20, false, &[2, 1, number]), &base])]);
    let issuer = Certificate::read_any(ca.der()).unwrap().subject.der();
    let tbs = sequence(&[&[2, 1, 1], ECDSA_SHA256, issuer, &at(days.0), &at(days.1), &listed, &extensions]);
    let signature = [&[0][..], &ca.key().sign(&tbs).unwrap()].concat();
    sequence(&[&tbs, ECDSA_SHA256, &tlv(3, &[&signature])])
}

#[test]
fn a_delta_out_of_date_remembers_whom_it_revoked_and_not_whom_it_let_go() {
    let ca = root("ca");
    let anchors = [anchor(&ca)];
    let judge = |serial: u64, lists: &CrlSet, mode: RevocationMode| {
        let end = leaf(serial, &ca, |_| {});
        let mut settings = settings();
        settings.revocation = RevocationSettings { mode, ..RevocationSettings::default() };
        validate(&end, &[], &anchors, lists, &settings, None, now()).map_err(|refused| refused.refusal)
    };
    // 1 is on hold in the complete list; the delta lets it go, and revokes 2. Of 3 nobody speaks.
    let complete = by_hand(&ca, 1, None, (-9, 9), &[(1, Some(6))]);
    let delta = |days| by_hand(&ca, 2, Some(1), days, &[(1, None), (2, Some(1))]);
    let (current, old) = (set(&[&complete, &delta((-2, 2))]), set(&[&complete, &delta((-8, -5))]));
    for mode in [RevocationMode::Prefer, RevocationMode::Require] {
        assert!(judge(1, &current, mode).is_ok(), "{mode:?}: let go");
        assert!(matches!(judge(2, &current, mode), Err(PathRefusal::Revoked { .. })), "{mode:?}");
        assert!(judge(3, &current, mode).is_ok(), "{mode:?}");
        assert!(matches!(judge(1, &old, mode), Err(PathRefusal::Revoked { .. })), "{mode:?}: held again");
        assert!(matches!(judge(2, &old, mode), Err(PathRefusal::Revoked { .. })), "{mode:?}: not forgotten");
    }
    assert!(judge(3, &old, RevocationMode::Prefer).is_ok());
    let unknown = judge(3, &old, RevocationMode::Require);
    assert!(matches!(unknown, Err(PathRefusal::RevocationUnknown(why)) if why.contains("out of date")), "{unknown:?}");
}

struct Sample {
    anchor: TrustAnchor,
    middle: Vec<u8>,
    end: Vec<u8>,
    crl: Vec<u8>,
    /// Lists `end`.
    revoking: Vec<u8>,
}

/// A chain with most extensions in it.
static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let top = root("root");
    let mut middle_params = params("middle", true);
    middle_params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example".into())],
        excluded_subtrees: vec![rcgen::GeneralSubtree::Rfc822Name("evil.example".into())],
    });
    let middle = CertifiedIssuer::signed_by(middle_params, KeyPair::generate().unwrap(), &top).unwrap();
    let end = leaf(300, &middle, |params| {
        params.subject_alt_names = vec![
            rcgen::SanType::DnsName("ward-1.example".try_into().unwrap()),
            rcgen::SanType::URI("spiffe://sekisho.example/site/a/device/b".try_into().unwrap()),
            rcgen::SanType::IpAddress([10, 0, 0, 1].into()),
        ];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.crl_distribution_points =
            vec![rcgen::CrlDistributionPoint { uris: vec!["http://crl.example/1.crl".to_owned()] }];
    });
    Sample {
        anchor: anchor(&top),
        middle: middle.der().to_vec(),
        end,
        crl: crl(&middle, 1, (-2, 5), &[1, 2, 3]),
        revoking: crl(&middle, 1, (-2, 5), &[1, 300]),
    }
});

fn judge(end: &[u8], middle: &[u8], list: &[u8], mode: RevocationMode) -> Result<ValidPath, PathRefused> {
    let mut settings = settings();
    settings.revocation.mode = mode;
    let crls = match Crl::from_der(list) {
        Ok(crl) => CrlSet::default().with("", crl).unwrap(),
        Err(_) => CrlSet::default(),
    };
    validate(end, &[middle], std::slice::from_ref(&SAMPLE.anchor), &crls, &settings, None, now())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No byte changed anywhere panics, takes long, or makes a path: everything is under some signature.
    #[test]
    fn mutated_certificates_never_panic_and_never_hold(
        which in 0..2_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let sample = &*SAMPLE;
        let mut both = [sample.end.clone(), sample.middle.clone()];
        for (index, byte, kind) in &changes {
            let der = &mut both[which];
            let at = index.index(der.len());
            match kind {
                0 => der[at] = *byte,
                1 => der.insert(at, *byte),
                _ => drop(der.remove(at)),
            }
        }
        let [end, middle] = &both;
        let same = *end == sample.end && *middle == sample.middle;
        let started = Instant::now();
        let outcome = judge(end, middle, &sample.crl, RevocationMode::Prefer);
        prop_assert!(started.elapsed() < Duration::from_secs(20));
        prop_assert_eq!(outcome.is_ok(), same, "{:?}", outcome);
        let _ = TrustAnchor::from_der(middle);
    }

    /// No byte changed in a list panics or clears anybody.
    #[test]
    fn mutated_lists_never_panic(index in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let sample = &*SAMPLE;
        let mut list = sample.revoking.clone();
        let at = index.index(list.len());
        if cut { list.truncate(at) } else { list[at] = byte }
        prop_assert!(judge(&sample.end, &sample.middle, &list, RevocationMode::Require).is_err());
    }
}
