//! Responses made by hand, so that each may be wrong in one thing.

use super::super::tests::{Ca, anchor, below, crl, day, leaf, now, params, root, set, settings};
use super::super::{
    Certificate, Crl, CrlSet, PathRefusal, RevocationMode, RevocationReason, RevocationSettings, ValidPath, validate,
};
use super::response::OCSP_SIGNING;
use super::*;
use crate::Profile;
use proptest::prelude::*;
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, KeyPair, SigningKey};
use std::sync::LazyLock;
use write::{octets, sequence, tlv};

const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const NO_CHECK: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 5];

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    Profile::CryptrecHigh.provider().signature_verification_algorithms.all
}

/// GeneralizedTime, so many days from the tests' day.
fn at(days: i64) -> Vec<u8> {
    let text = crate::rfc3339(rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(day(days)).unwrap(),
    )));
    let digits: String = text.chars().filter(|c| c.is_ascii_digit()).collect();
    tlv(0x18, &[format!("{digits}Z").as_bytes()])
}

fn good() -> Vec<u8> {
    tlv(0x80, &[])
}

fn unknown() -> Vec<u8> {
    tlv(0x82, &[])
}

fn revoked(reason: u8) -> Vec<u8> {
    tlv(0xa1, &[&at(-1), &tlv(0xa0, &[&tlv(0x0a, &[&[reason]])])])
}

/// One SingleResponse about `certificate`, of `days`.
fn single(certificate: &[u8], issuer: &Ca, status: &[u8], days: (i64, Option<i64>)) -> Vec<u8> {
    let target = OcspTarget::new(certificate, issuer.der().as_ref().into()).unwrap();
    let request = target.request();
    // The request's CertID, out of its four sequences.
    let id = (0..4).fold(Reader::new(&request), |mut reader, _| reader.inside(der::SEQUENCE).unwrap());
    let next = days.1.map(|next| tlv(0xa0, &[&at(next)])).unwrap_or_default();
    sequence(&[id.rest(), status, &at(days.0), &next])
}

fn by_name(certificate: &[u8]) -> Vec<u8> {
    tlv(0xa1, &[Certificate::read_any(certificate).unwrap().subject.der()])
}

fn by_key(certificate: &[u8]) -> Vec<u8> {
    let key = Certificate::read_any(certificate).unwrap().key.key;
    tlv(0xa2, &[&octets(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key).as_ref())])
}

/// A whole response.
fn response(
    key: &KeyPair,
    responder: &[u8],
    answers: &[Vec<u8>],
    certificates: &[&[u8]],
    extensions: &[u8],
) -> Vec<u8> {
    let data = sequence(&[responder, &at(0), &sequence(&[&answers.concat()]), extensions]);
    let signature = [&[0][..], &key.sign(&data).unwrap()].concat();
    let certificates = match certificates {
        [] => Vec::new(),
        all => tlv(0xa0, &[&sequence(&[&all.concat()])]),
    };
    let basic = sequence(&[&data, ECDSA_SHA256, &tlv(3, &[&signature]), &certificates]);
    let oid = [6, 9, 0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
    sequence(&[&tlv(0x0a, &[&[0]]), &tlv(0xa0, &[&sequence(&[&oid, &octets(&basic)])])])
}

/// The CA's own response about a certificate.
fn own(certificate: &[u8], ca: &Ca, status: &[u8], days: (i64, Option<i64>)) -> Vec<u8> {
    response(ca.key(), &by_name(ca.der()), &[single(certificate, ca, status, days)], &[], &[])
}

fn ask(certificate: &[u8], ca: &Ca, response: &[u8]) -> Result<OcspAnswer, OcspError> {
    OcspTarget::new(certificate, ca.der().as_ref().into()).unwrap().answer(response, algorithms())
}

const DAYS: (i64, Option<i64>) = (-1, Some(1));

#[test]
fn the_issuer_s_word_is_taken() {
    let ca = root("ca");
    let end = leaf(300, &ca, |_| {});
    for responder in [by_name(ca.der()), by_key(ca.der())] {
        let of = |status: &[u8]| {
            let made = response(ca.key(), &responder, &[single(&end, &ca, status, DAYS)], &[], &[]);
            ask(&end, &ca, &made).unwrap()
        };
        let answer = of(&good());
        assert_eq!((answer.status(), answer.this_update(), answer.until()), (OcspStatus::Good, day(-1), day(1)));
        assert_eq!(of(&unknown()).status(), OcspStatus::Unknown);
        let key_compromise = OcspStatus::Revoked { when: day(-1), reason: RevocationReason::KeyCompromise };
        assert_eq!(of(&revoked(1)).status(), key_compromise);
        // `removeFromCRL` removes nothing here.
        let unspecified = OcspStatus::Revoked { when: day(-1), reason: RevocationReason::Unspecified };
        assert_eq!(of(&revoked(8)).status(), unspecified);
    }
    // Said without an end: `revoked` counts, `good` does not.
    let endless = |status: &[u8]| ask(&end, &ca, &own(&end, &ca, status, (-1, None)));
    assert_eq!(endless(&good()), Err(OcspError::NoNextUpdate));
    assert!(matches!(endless(&revoked(1)).unwrap().status(), OcspStatus::Revoked { .. }));
}

#[test]
fn what_does_not_fit_has_its_name() {
    let (ca, other) = (root("ca"), root("ca"));
    let (end, another) = (leaf(300, &ca, |_| {}), leaf(301, &ca, |_| {}));
    let about = single(&end, &ca, &good(), DAYS);
    let name = by_name(ca.der());
    let fault = |response: &[u8]| ask(&end, &ca, response).unwrap_err();
    assert_eq!(fault(&own(&another, &ca, &good(), DAYS)), OcspError::OtherCertificate);
    // The same serial number of a namesake.
    let foreign = single(&leaf(300, &other, |_| {}), &other, &good(), DAYS);
    assert_eq!(fault(&response(ca.key(), &name, &[foreign], &[], &[])), OcspError::OtherCertificate);
    assert_eq!(
        fault(&response(other.key(), &name, std::slice::from_ref(&about), &[other.der()], &[])),
        OcspError::Signature
    );
    // Signed by the issuer, who says that somebody else did.
    assert_eq!(
        fault(&response(ca.key(), &by_key(other.der()), std::slice::from_ref(&about), &[], &[])),
        OcspError::Signature
    );
    assert_eq!(fault(&own(&end, &ca, &good(), (1, Some(-1)))), OcspError::Backwards);
    let extension = |critical: &[u8]| sequence(&[&[6, 3, 0x2a, 3, 4], critical, &octets(b"x")]);
    let with = |critical: &[u8]| tlv(0xa1, &[&sequence(&[&extension(critical)])]);
    assert!(ask(&end, &ca, &response(ca.key(), &name, std::slice::from_ref(&about), &[], &with(&[]))).is_ok());
    let critical = response(ca.key(), &name, std::slice::from_ref(&about), &[], &with(&[1, 1, 0xff]));
    assert_eq!(fault(&critical), OcspError::UnknownCriticalExtension);
    let mut whole = about.clone();
    let inside = Reader::new(&about).inside(der::SEQUENCE).unwrap().rest().to_vec();
    whole.clone_from(&sequence(&[&inside, &with(&[1, 1, 0xff])]));
    assert_eq!(fault(&response(ca.key(), &name, &[whole], &[], &[])), OcspError::UnknownCriticalExtension);
    for status in [1, 2, 3, 5, 6] {
        assert_eq!(fault(&[0x30, 3, 0x0a, 1, status]), OcspError::Unsuccessful(status));
    }
    assert_eq!(fault(&vec![0x30; MAX_OCSP_BYTES + 1]), OcspError::TooLarge);
    assert!(matches!(fault(b""), OcspError::Malformed(_)));
    // Good and revoked in one response: revoked.
    for all in [[good(), revoked(1)], [revoked(1), good()]] {
        let both: Vec<_> = all.iter().map(|status| single(&end, &ca, status, DAYS)).collect();
        let answer = ask(&end, &ca, &response(ca.key(), &name, &both, &[], &[])).unwrap();
        assert!(matches!(answer.status(), OcspStatus::Revoked { .. }));
    }
}

/// A responder's certificate and key.
fn responder(issuer: &Ca, serial: u64, change: impl FnOnce(&mut rcgen::CertificateParams)) -> (Vec<u8>, KeyPair) {
    let mut params = params("responder", false);
    params.serial_number = Some(rcgen::SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().der().to_vec(), key)
}

#[test]
fn only_the_issuer_delegates() {
    assert_eq!(OCSP_SIGNING, [0x2b, 6, 1, 5, 5, 7, 3, 9]);
    let top = root("top");
    let (ca, sister) = (below("ca", &top), below("sister", &top));
    let end = leaf(300, &ca, |_| {});
    let by = |(certificate, key): &(Vec<u8>, KeyPair), id: fn(&[u8]) -> Vec<u8>| {
        let about = single(&end, &ca, &good(), DAYS);
        ask(&end, &ca, &response(key, &id(certificate), &[about], &[certificate], &[]))
    };
    let delegated = responder(&ca, 7, |_| {});
    for id in [by_name, by_key] {
        assert_eq!(by(&delegated, id).unwrap().status(), OcspStatus::Good);
    }
    // An answer ends with its responder.
    let short = responder(&ca, 8, |params| params.not_after = params.not_before + std::time::Duration::from_secs(9));
    assert!(by(&short, by_name).unwrap().until() < day(1));
    let none = |change: fn(&mut rcgen::CertificateParams)| by(&responder(&ca, 9, change), by_name).unwrap_err();
    assert_eq!(none(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), OcspError::Signature);
    assert_eq!(none(|params| params.extended_key_usages = Vec::new()), OcspError::Signature);
    assert_eq!(none(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyEncipherment]), OcspError::Signature);
    let critical = |params: &mut rcgen::CertificateParams| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions = vec![unknown];
    };
    assert_eq!(none(critical), OcspError::Signature);
    // Certified by the CA above, or by one beside.
    for stranger in [&top, &sister] {
        assert_eq!(by(&responder(stranger, 7, |_| {}), by_name).unwrap_err(), OcspError::Signature);
    }
}

fn judge(
    chain: (&[u8], &Ca),
    top: &Ca,
    crls: &CrlSet,
    (mode, ocsp): (RevocationMode, RevocationMode),
    now: i64,
) -> Result<ValidPath, PathRefusal> {
    let mut settings = settings();
    settings.revocation = RevocationSettings { mode, ocsp, grace: 3_600 };
    let anchors = [anchor(top)];
    validate(chain.0, &[chain.1.der()], &anchors, crls, &settings, None, now).map_err(|refused| refused.refusal)
}

fn answers(all: &[&OcspAnswer]) -> OcspSet {
    OcspSet::default().with(all.iter().map(|answer| Arc::new((*answer).clone())), false)
}

/// The table of [`RevocationSettings`].
#[test]
fn lists_and_answers_are_judged_together() {
    use RevocationMode::{Off, Prefer, Require};
    let top = root("top");
    let ca = below("ca", &top);
    let end = leaf(300, &ca, |_| {});
    let of_ca = ask(ca.der(), &top, &own(ca.der(), &top, &good(), DAYS)).unwrap();
    let of_end = |status: &[u8]| ask(&end, &ca, &own(&end, &ca, status, DAYS)).unwrap();
    let (yes, no, dunno) = (of_end(&good()), of_end(&revoked(1)), of_end(&unknown()));
    let lists = set(&[&crl(&top, 1, (-2, 5), &[]), &crl(&ca, 1, (-2, 5), &[])]);
    let naming = set(&[&crl(&top, 1, (-2, 5), &[]), &crl(&ca, 1, (-2, 5), &[300])]);
    let none = CrlSet::default();
    let judged = |crls: &CrlSet, answers: &OcspSet, modes| {
        judge((&end, &ca), &top, &crls.with_answers(answers.clone()), modes, now())
    };
    let modes = [Off, Prefer, Require];
    let all = modes.into_iter().flat_map(|mode| modes.map(|ocsp| (mode, ocsp)));
    for (mode, ocsp) in all {
        let case = format!("{mode:?} {ocsp:?}");
        let requires = mode == Require || ocsp == Require;
        let refused = |crls: &CrlSet, answers: &OcspSet| match judged(crls, answers, (mode, ocsp)) {
            Ok(_) => "",
            Err(PathRefusal::Revoked { .. }) => "revoked",
            Err(PathRefusal::RevocationUnknown(_)) => "unknown",
            Err(other) => panic!("{case}: {other}"),
        };
        let unknown = if requires { "unknown" } else { "" };
        assert_eq!(refused(&none, &answers(&[])), unknown, "{case}: nobody speaks");
        // One of both says so, the other says good.
        let by_list = if mode == Off { if ocsp == Require { "" } else { unknown } } else { "revoked" };
        assert_eq!(refused(&naming, &answers(&[&of_ca, &yes])), by_list, "{case}: revoked by the list alone");
        let by_answer = match (ocsp, mode) {
            (Off, _) => "",
            _ => "revoked",
        };
        assert_eq!(refused(&lists, &answers(&[&of_ca, &no])), by_answer, "{case}: revoked by the answer alone");
        // Good by one of both, for all or for each another one.
        let good_by_lists = if mode == Off { unknown } else { "" };
        assert_eq!(refused(&lists, &answers(&[])), good_by_lists, "{case}: good by lists");
        assert_eq!(refused(&lists, &answers(&[&dunno])), good_by_lists, "{case}: the responder does not know");
        let good_by_answers = if ocsp == Off { unknown } else { "" };
        assert_eq!(refused(&none, &answers(&[&of_ca, &yes])), good_by_answers, "{case}: good by answers");
        let half = set(&[&crl(&top, 1, (-2, 5), &[])]);
        let mixed = if mode == Off || ocsp == Off { unknown } else { "" };
        assert_eq!(refused(&half, &answers(&[&yes])), mixed, "{case}: the CA by a list, the leaf by an answer");
        assert_eq!(refused(&none, &answers(&[&yes])), unknown, "{case}: of the CA nobody speaks");
    }
}

#[test]
fn an_answer_counts_for_its_time_and_revoked_for_ever() {
    use RevocationMode::{Off, Prefer, Require};
    let top = root("top");
    let ca = below("ca", &top);
    let end = leaf(300, &ca, |_| {});
    let of_ca = ask(ca.der(), &top, &own(ca.der(), &top, &good(), (-1, Some(100)))).unwrap();
    let with = |status: &[u8]| {
        let answer = ask(&end, &ca, &own(&end, &ca, status, DAYS)).unwrap();
        CrlSet::default().with_answers(answers(&[&of_ca, &answer]))
    };
    let at = |crls: &CrlSet, mode, now| judge((&end, &ca), &top, crls, (Off, mode), now);
    let path = at(&with(&good()), Require, now()).unwrap();
    assert_eq!(path.validity().1, day(1) + 3_600, "remembered no longer than the answer and its grace");
    assert!(at(&with(&good()), Require, day(1) + 3_600).is_ok());
    assert!(matches!(at(&with(&good()), Require, day(1) + 3_601), Err(PathRefusal::RevocationUnknown(_))));
    assert!(at(&with(&good()), Prefer, day(1) + 3_601).is_ok());
    for mode in [Prefer, Require] {
        assert!(matches!(at(&with(&revoked(6)), mode, day(50)), Err(PathRefusal::Revoked { .. })), "{mode:?}");
    }
    let answer = ask(&end, &ca, &own(&end, &ca, &good(), DAYS)).unwrap();
    let before = answer.this_update();
    assert_eq!(answer.check_time(before - OCSP_CLOCK_TOLERANCE, 0), Ok(()));
    assert_eq!(answer.check_time(before - OCSP_CLOCK_TOLERANCE - 5, 0), Err(OcspError::Early(5)));
    assert_eq!(answer.check_time(day(1) + 10, 10), Ok(()));
    assert_eq!(answer.check_time(day(1) + 11, 10), Err(OcspError::Late(11)));
}

#[test]
fn a_revoked_responder_vouches_for_nobody() {
    use RevocationMode::{Prefer, Require};
    let top = root("top");
    let ca = below("ca", &top);
    let end = leaf(300, &ca, |_| {});
    let no_check = |params: &mut rcgen::CertificateParams| {
        params.custom_extensions = vec![CustomExtension::from_oid_content(NO_CHECK, vec![5, 0])];
    };
    let of_ca = ask(ca.der(), &top, &own(ca.der(), &top, &good(), DAYS)).unwrap();
    for (plain, taken) in [(true, false), (false, true)] {
        let (certificate, key) = if plain { responder(&ca, 7, |_| {}) } else { responder(&ca, 7, no_check) };
        let by = |status: &[u8]| {
            let made = response(&key, &by_name(&certificate), &[single(&end, &ca, status, DAYS)], &[&certificate], &[]);
            ask(&end, &ca, &made).unwrap()
        };
        // A list that is out of date says who was revoked, and nothing of the leaf.
        let list = Crl::from_der(&crl(&ca, 1, (-9, -5), &[7])).unwrap();
        list.prove([ca.der().as_ref()], algorithms()).unwrap().unwrap();
        let lists = CrlSet::default().with("ca", list).unwrap();
        let judged = |status: &[u8], crls: &CrlSet| {
            judge((&end, &ca), &top, &crls.with_answers(answers(&[&of_ca, &by(status)])), (Prefer, Require), now())
        };
        assert!(judged(&good(), &CrlSet::default()).is_ok());
        let refused = judged(&good(), &lists);
        assert_eq!(refused.is_ok(), taken, "{refused:?}");
        assert!(taken || matches!(refused, Err(PathRefusal::RevocationUnknown(why)) if why.contains("was revoked")));
        assert!(matches!(judged(&revoked(1), &lists), Err(PathRefusal::Revoked { .. })));
    }
}

#[test]
fn only_a_newer_good_clears() {
    let ca = root("ca");
    let end = leaf(300, &ca, |_| {});
    let of = |status: &[u8], from: i64| ask(&end, &ca, &own(&end, &ca, status, (from, Some(9)))).unwrap();
    let no = of(&revoked(6), -3);
    assert_eq!(of(&good(), -4).replaces(&no), Err(OcspError::Older));
    assert_eq!(of(&good(), -3).replaces(&no), Ok(false));
    assert_eq!(of(&unknown(), -2).replaces(&no), Ok(false));
    assert_eq!(of(&good(), -2).replaces(&no), Ok(true));
    assert_eq!(no.replaces(&of(&good(), -3)), Ok(true), "of the same second, the worse");
    assert_eq!(no.replaces(&of(&good(), -2)), Err(OcspError::Older));
    assert_eq!(of(&unknown(), -2).replaces(&of(&good(), -3)), Ok(true));
}

#[test]
fn a_set_s_version_is_another_where_somebody_is_judged_otherwise() {
    let ca = root("ca");
    let (one, two) = (leaf(300, &ca, |_| {}), leaf(301, &ca, |_| {}));
    let of = |end: &[u8], status: &[u8]| Arc::new(ask(end, &ca, &own(end, &ca, status, DAYS)).unwrap());
    let (good_one, good_two) = (of(&one, &good()), of(&two, &good()));
    let (bad_one, bad_two, unknown_one) = (of(&one, &revoked(1)), of(&two, &revoked(1)), of(&one, &unknown()));
    let with = |set: &OcspSet, all: &[&Arc<OcspAnswer>]| set.with(all.iter().map(|answer| Arc::clone(answer)), false);
    let none = OcspSet::default();
    let both = with(&none, &[&good_one, &good_two]);
    assert_eq!(none.version(), both.version(), "good makes no difference");
    assert_eq!(with(&none, &[&unknown_one]).version(), none.version(), "never known");
    let lost = with(&both, &[&unknown_one, &good_two]);
    assert_eq!(with(&lost, &[&unknown_one, &good_two]).version(), lost.version(), "lost once");
    let anew = both.with([good_one.clone(), good_two.clone()], true);
    let versions = [
        *both.version(),
        *lost.version(),
        *with(&both, &[&bad_one, &good_two]).version(),
        *with(&both, &[&good_one, &bad_two]).version(),
        *with(&both, &[&bad_one, &bad_two]).version(),
    ];
    assert_eq!(versions.iter().collect::<std::collections::HashSet<_>>().len(), versions.len());
    assert_ne!(anew.version(), both.version());
    let crls = CrlSet::default();
    assert_ne!(crls.with_answers(lost).version(), crls.with_answers(both).version());
}

#[test]
fn whoever_changes_the_bytes_of_a_certificate_is_no_other() {
    let ca = root("ca");
    let end = leaf(300, &ca, |_| {});
    let mut other = end.clone();
    *other.last_mut().unwrap() ^= 1;
    let id = |end: &[u8]| *OcspTarget::new(end, ca.der().as_ref().into()).unwrap().id();
    assert_eq!(id(&end), id(&other));
    assert_ne!(id(&end), id(&leaf(301, &ca, |_| {})));
    let namesake = root("ca");
    let own = OcspTarget::new(&end, namesake.der().as_ref().into()).unwrap();
    assert_ne!(*own.id(), id(&end));
    assert!(OcspTarget::new(&end, root("other").der().as_ref().into()).is_err());
    let (kept, behind) = (own.to_der(), b"behind");
    let kept = [&kept[..], behind].concat();
    assert_eq!(OcspTarget::from_der(&kept), Ok((own, &behind[..])));
    assert!((0..kept.len() - behind.len()).all(|cut| OcspTarget::from_der(&kept[..cut]).is_err()));
}

#[test]
fn a_certificate_names_its_responders() {
    let ca = root("ca");
    let access =
        |method: u8, url: &str| sequence(&[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 48, method], &tlv(0x86, &[url.as_bytes()])]);
    let value = sequence(&[
        &access(2, "http://ca.example/issuer"),
        &access(1, "ldap://ocsp.example"),
        &access(1, "http://ocsp.example/a"),
        &access(1, "HTTP://ocsp.example/b"),
        &access(1, "http://ocsp.example/a"),
    ]);
    let end = leaf(300, &ca, |params| {
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], value.clone())];
    });
    assert_eq!(ocsp_urls(&end).unwrap(), ["http://ocsp.example/a", "HTTP://ocsp.example/b"]);
    assert_eq!(ocsp_urls(&leaf(301, &ca, |_| {})).unwrap(), Vec::<String>::new());
}

struct Sample {
    ca: Ca,
    end: Vec<u8>,
    good: Vec<u8>,
    revoked: Vec<u8>,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let ca = root("ca");
    let end = leaf(300, &ca, |_| {});
    let (certificate, key) = responder(&ca, 7, |_| {});
    let of = |status: &[u8]| {
        response(&key, &by_name(&certificate), &[single(&end, &ca, status, DAYS)], &[&certificate], &[])
    };
    let (good, revoked) = (of(&good()), of(&revoked(1)));
    assert!(ask(&end, &ca, &good).is_ok() && ask(&end, &ca, &revoked).is_ok());
    Sample { ca, end, good, revoked }
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// No byte changed anywhere panics, makes `revoked` anything else, or says of anybody else that he is good.
    #[test]
    fn mutated_responses_clear_nobody(
        which in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let sample = &*SAMPLE;
        let original = if which { &sample.good } else { &sample.revoked };
        let mut bytes = original.clone();
        for (index, byte, kind) in &changes {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = *byte,
                1 => bytes.insert(at, *byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(answer) = ask(&sample.end, &sample.ca, &bytes) {
            prop_assert_eq!(matches!(answer.status(), OcspStatus::Good), which);
            prop_assert_eq!(matches!(answer.status(), OcspStatus::Revoked { .. }), !which);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let sample = &*SAMPLE;
        prop_assert!(ask(&sample.end, &sample.ca, &bytes).is_err());
        let _ = OcspTarget::new(&bytes, sample.ca.der().as_ref().into());
        let _ = ocsp_urls(&bytes);
    }
}
