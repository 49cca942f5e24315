use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair};

struct World {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl World {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate that names `http://o.example/`.
    fn certificate(&self, serial: u64) -> Vec<u8> {
        const ACCESS: &[u8] = b"\x30\x1f\x30\x1d\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x01\x86\x11http://o.example/";
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial.into());
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], ACCESS.to_vec())];
        params.signed_by(&KeyPair::generate().unwrap(), &self.ca).unwrap().der().to_vec()
    }

    fn met(&self, answers: &Answers, serial: u64) {
        answers.met(&self.certificate(serial), self.ca.der());
    }
}

fn config() -> Revocation {
    Revocation { ocsp: OnRevocation::Prefer, ..Revocation::off() }
}

fn answers(now: i64) -> Answers {
    Answers::load(&config(), Profile::CryptrecHigh, now)
}

fn fail(answers: &Answers, question: &Question, now: i64) {
    let fetched = Err("nobody is there".to_owned());
    answers.take(&question.id, &question.url, fetched, (&config(), Profile::CryptrecHigh), now);
}

#[test]
fn each_certificate_is_asked_about_once_and_after_a_failure_later() {
    let (world, answers, config) = (World::new(), answers(0), config());
    world.met(&answers, 1);
    answers.met(&world.certificate(1), world.ca.der());
    world.met(&answers, 2);
    // No certificate, no responder, another issuer: nobody to ask.
    answers.met(b"garbage", world.ca.der());
    answers.met(world.ca.der(), world.ca.der());
    let questions = answers.questions(&config, 10);
    assert_eq!(questions.len(), 2);
    assert!(questions.iter().all(|question| question.url == "http://o.example/" && question.place.is_ok()));
    assert!(answers.questions(&config, 11).is_empty(), "lent out");
    let mut now = 20;
    for pause in [1, 2, 4, 8] {
        questions.iter().for_each(|question| fail(&answers, question, now));
        assert!(answers.questions(&config, now + pause - 1).is_empty(), "{pause}");
        assert_eq!(answers.questions(&config, now + pause).len(), 2, "{pause}");
        now += 100;
    }
    let report = answers.report(&config, now);
    assert_eq!((report.unanswered, report.failing, report.good), (2, 2, 0));
    // A question whose answer never came is put again.
    assert_eq!(answers.questions(&config, now + 1_000).len(), 2);
}

#[test]
fn whom_nobody_shows_is_forgotten_and_chains_are_judged_anew_twice_a_day() {
    let (world, answers, config) = (World::new(), answers(0), config());
    world.met(&answers, 1);
    world.met(&answers, 2);
    assert_eq!(answers.questions(&config, 0).len(), 2);
    let first = *answers.set().version();
    assert!(!answers.has_changed());
    world.met(&answers, 1);
    let _ = answers.questions(&config, ROUND);
    assert!(answers.has_changed());
    assert_ne!(*answers.set().version(), first, "a round");
    assert_eq!(answers.report(&config, ROUND).unanswered, 2);
    let _ = answers.questions(&config, FORGOTTEN + SWEEP);
    assert_eq!(answers.report(&config, 0).unanswered, 1);
    let _ = answers.questions(&config, ROUND + FORGOTTEN + SWEEP);
    assert_eq!(answers.report(&config, 0).unanswered, 0);
}

#[test]
fn memory_is_bounded() {
    let (world, answers, config) = (World::new(), answers(0), config());
    let one = world.certificate(1);
    for _ in 0..2 * INBOX_BYTES / one.len() {
        answers.met(&one, world.ca.der());
    }
    let bytes = answers.inbox.lock().unwrap().bytes;
    assert!(bytes <= INBOX_BYTES && bytes > INBOX_BYTES / 2, "{bytes}");
    assert_eq!(answers.questions(&config, 0).len(), 1);
    assert_eq!(answers.inbox.lock().unwrap().bytes, 0);
    // Full: the one that was not shown for the longest goes, and none that was shown within the hour.
    let target = OcspTarget::new(&one, world.ca.der().as_ref().into()).unwrap();
    let mut state = answers.state();
    for number in 0..MAX_ASKED as u64 {
        let id = certs::fingerprint(&number.to_be_bytes());
        let seen = 4_000 + i64::try_from(number).unwrap();
        let asked = Asked { target: target.clone(), urls: Box::default(), seen, due: 0, failures: 0, answer: None };
        if state.asked.len() < MAX_ASKED {
            state.asked.insert(id, asked);
        }
    }
    let other = world.certificate(2);
    state.take_in(&other, world.ca.der(), &config, 3_000);
    assert!(state.asked.len() == MAX_ASKED && state.asked.contains_key(target.id()));
    state.take_in(&other, world.ca.der(), &config, 3_700);
    assert!(state.asked.len() == MAX_ASKED && !state.asked.contains_key(target.id()));
}

#[test]
fn what_the_cache_holds_is_proved_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = Revocation { cache_directory: Some(folder.path().to_owned()), ..config() };
    let world = World::new();
    let target = OcspTarget::new(&world.certificate(1), world.ca.der().as_ref().into()).unwrap();
    remember(&config, &target, "http://o.example/", b"no response");
    for (name, content) in [("empty.ocsp", &b""[..]), ("line.ocsp", b"http://o.example/\n"), ("text.ocsp", b"x")] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    assert_eq!(cache::answers(folder.path(), 99, 1 << 20).count(), 4);
    assert!(Answers::load(&config, Profile::CryptrecHigh, 0).set().is_empty());
}

#[test]
fn a_responder_s_trouble_is_not_said_for_every_certificate() {
    let mut state = State::default();
    let mut said = 0;
    for now in 0..7_200 {
        // The message is another each time, and there are two of them.
        for why in [format!("it was out of date {now} s ago"), "it is about another certificate".to_owned()] {
            let before = state.told.clone();
            state.complain("http://o.example/", &why, now);
            said += u32::from(state.told != before);
        }
    }
    assert_eq!(said, 4, "each of them once an hour");
    state.recover("http://other.example/");
    assert_eq!(state.told.len(), 2);
    state.recover("http://o.example/");
    assert!(state.told.is_empty());
    (0..2 * MAX_TOLD).for_each(|number| state.complain(&number.to_string(), "x", 20_000));
    assert!(state.told.len() <= MAX_TOLD);
}
