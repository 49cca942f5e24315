use super::*;
use crate::ServerIdentity;
use crate::issue::{Authority, Issued};
use crate::profile::{ClientSettings, Resumption, ServerSettings, client_config, server_config};
use crate::testing::{
    NOW, YEAR, authority, der, device, device_certificate, domain, later, odd, other_authority, server_certificate,
    shake_hands, uri,
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa};
use rustls::client::Resumption as ClientResumption;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod known;

/// A clock that a test sets.
#[derive(Debug)]
struct Clock(AtomicU64);

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW.as_secs())))
    }
    fn set(&self, time: UnixTime) {
        self.0.store(time.as_secs(), Ordering::Relaxed);
    }
    fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}

/// A listener and its registry.
struct Door {
    clock: Arc<Clock>,
    registry: Arc<Mutex<Result<(), Refusal>>>,
    verifier: Arc<PeerVerifier>,
    config: Arc<ServerConfig>,
}

/// Judges servers by this authority.
fn trusting(anchors: &str) -> Arc<BackendVerifier> {
    let anchors = Anchors::from_pem(anchors.as_bytes()).unwrap();
    Arc::new(BackendVerifier::new(&anchors, Profile::CryptrecHighTls12))
}

fn verifier(anchors: &str, registry: &Arc<Mutex<Result<(), Refusal>>>) -> Arc<PeerVerifier> {
    let anchors = Anchors::from_pem(anchors.as_bytes()).unwrap();
    let registry = Arc::clone(registry);
    let admit: Admit = Arc::new(move |_| *registry.lock().unwrap());
    Arc::new(PeerVerifier::new(&anchors, Profile::CryptrecHighTls12, domain(), admit))
}

impl Door {
    fn new(profile: Profile) -> Self {
        let clock = Clock::new();
        let registry = Arc::new(Mutex::new(Ok(())));
        let verifier = verifier(authority().certificate_pem(), &registry);
        let issued = server_certificate();
        let identity =
            ServerIdentity::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.expose().as_bytes()).unwrap();
        let config = server_config(ServerSettings {
            certificates: crate::profile::ClientCertificates::Required,
            profile,
            resolver: identity.resolver(),
            verifier: Arc::clone(&verifier),
            alpn: &[b"h2", b"http/1.1"],
            resumption: Resumption::new_tickets().unwrap(),
            clock: Arc::clone(&clock) as _,
        });
        Self { clock, registry, verifier, config: Arc::new(config.unwrap()) }
    }

    /// A client that resumes sessions.
    fn client(&self, profile: Profile, issued: Option<&Issued>, extra: &str) -> Arc<ClientConfig> {
        let identity = issued.map(|issued| {
            let chain = format!("{}{extra}", issued.certificate_pem);
            ServerIdentity::from_pem(chain.as_bytes(), issued.key_pem.expose().as_bytes()).unwrap()
        });
        let mut config = client_config(ClientSettings {
            profile,
            verifier: trusting(authority().certificate_pem()),
            identity: identity.as_ref(),
            alpn: &[b"h2"],
            clock: Clock::new(),
        })
        .unwrap();
        config.resumption = ClientResumption::in_memory_sessions(8);
        Arc::new(config)
    }

    fn knock(&self, issued: &Issued) -> Result<Met, Error> {
        self.meet(&self.client(Profile::CryptrecHigh, Some(issued), ""))
    }

    /// A handshake in memory.
    fn meet(&self, client: &Arc<ClientConfig>) -> Result<Met, Error> {
        self.meet_as(client, "localhost")
    }

    fn meet_as(&self, client: &Arc<ClientConfig>, name: &'static str) -> Result<Met, Error> {
        let mut client = ClientConnection::new(Arc::clone(client), name.try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        if let Err((by_server, error)) = shake_hands(&mut client, &mut server) {
            if by_server {
                self.alert(&mut client, &mut server);
            }
            return Err(error);
        }
        Ok(Met { client, server })
    }

    /// The client always learns by an alert that it was refused.
    fn alert(&self, client: &mut ClientConnection, server: &mut ServerConnection) {
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        let received = client.process_new_packets().unwrap_err();
        let Error::AlertReceived(alert) = received else { panic!("no alert: {received}") };
        LAST_ALERT.set(Some(alert));
    }

    fn peer(&self, met: &Met) -> Result<VerifiedPeer, PeerRefused> {
        self.verifier.peer(&met.server, self.clock.now())
    }

    fn refused(&self, issued: &Issued) -> (Refusal, AlertDescription, String) {
        let (refusal, detail) = refusal_of(&self.knock(issued).err().expect("the peer was let in"));
        (refusal, LAST_ALERT.get().unwrap(), detail)
    }
}

thread_local! {
    static LAST_ALERT: std::cell::Cell<Option<AlertDescription>> = const { std::cell::Cell::new(None) };
}

struct Met {
    #[expect(dead_code, reason = "keeps the other end of the connection")]
    client: ClientConnection,
    server: ServerConnection,
}

#[test]
fn a_registered_device_comes_in() {
    for profile in Profile::ALL {
        let door = Door::new(profile);
        let issued = device_certificate("sakura-clinic", "ward-1");
        let met = door.meet(&door.client(profile, Some(&issued), "")).unwrap();
        let peer = door.peer(&met).unwrap();
        assert_eq!(peer.device(), Some(&device("sakura-clinic", "ward-1")));
        assert_eq!(peer.fingerprint(), &fingerprint(&der(&issued.certificate_pem)));
        assert_eq!(peer.not_after(), later(YEAR));
        assert!(!peer.resumed());
        assert_eq!(met.server.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(met.server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let suite = met.server.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
        let group = met.server.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    }
}

#[test]
fn nobody_comes_in_without_a_certificate() {
    let door = Door::new(Profile::CryptrecHighTls12);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Profile::CryptrecHighTls12.provider();
        let client = ClientConfig::builder_with_details(provider, Clock::new())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(trusting(authority().certificate_pem()))
            .with_no_client_auth();
        let error = door.meet(&Arc::new(client)).err().unwrap();
        assert_eq!(refusal_of(&error).0, Refusal::CertificateMissing, "{version:?}");
    }
}

#[test]
fn tls12_only_where_the_profile_says_so() {
    let issued = device_certificate("sakura-clinic", "ward-1");
    let client = |door: &Door| {
        let mut client = (*door.client(Profile::CryptrecHighTls12, Some(&issued), "")).clone();
        let resolver = Arc::clone(&client.client_auth_cert_resolver);
        client = ClientConfig::builder_with_details(Profile::CryptrecHighTls12.provider(), Clock::new())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(trusting(authority().certificate_pem()))
            .with_client_cert_resolver(resolver);
        Arc::new(client)
    };
    let open = Door::new(Profile::CryptrecHighTls12);
    let client_of_open = client(&open);
    let met = open.meet(&client_of_open).unwrap();
    assert_eq!(met.server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    assert_eq!(open.peer(&met).unwrap().device(), Some(&device("sakura-clinic", "ward-1")));
    let again = open.meet(&client_of_open).unwrap();
    assert!(open.peer(&again).unwrap().resumed());
    *open.registry.lock().unwrap() = Err(Refusal::SiteSuspended);
    let again = open.meet(&client_of_open).unwrap();
    assert_eq!(open.peer(&again).unwrap_err().refusal, Refusal::SiteSuspended);

    let strict = Door::new(Profile::CryptrecHigh);
    let error = strict.meet(&client(&strict)).err().unwrap();
    assert_eq!(refusal_of(&error).0, Refusal::HandshakeFailed);
    assert_eq!(LAST_ALERT.get(), Some(AlertDescription::ProtocolVersion));
}

#[test]
fn each_bad_certificate_has_its_refusal_and_alert() {
    use AlertDescription as A;
    let door = Door::new(Profile::CryptrecHigh);
    let of = |issued: &Issued| {
        let (refusal, alert, detail) = door.refused(issued);
        assert!(!detail.is_empty() && !detail.contains(char::is_control), "{detail:?}");
        (refusal, alert)
    };
    let id = device("sakura-clinic", "ward-1");
    let stranger = other_authority().issue_device(&domain(), &id, YEAR, NOW).unwrap();
    assert_eq!(of(&stranger), (Refusal::CertificateUntrusted, A::UnknownCA));
    // An authority of the same name with another key.
    let impostor = Authority::new("Sekisho test devices", YEAR, NOW).unwrap();
    let forged = impostor.issue_device(&domain(), &id, YEAR / 2, NOW).unwrap();
    assert_eq!(of(&forged), (Refusal::CertificateUntrusted, A::UnknownCA));
    let server = authority().issue_server(&["localhost"], YEAR, NOW).unwrap();
    assert_eq!(of(&server), (Refusal::CertificatePurpose, A::UnsupportedCertificate));
    let mixed = odd(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(of(&mixed), (Refusal::CertificatePurpose, A::UnsupportedCertificate));
    let ca = odd(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(of(&ca).0, Refusal::CertificatePurpose);
    let two = odd(|p| p.subject_alt_names.push(uri("spiffe://sekisho.example/site/momiji-hospital/device/desk-1")));
    assert_eq!(of(&two), (Refusal::CertificateIdentity, A::CertificateUnknown));
    let none = odd(|p| {
        p.subject_alt_names.clear();
        p.distinguished_name.push(rcgen::DnType::CommonName, "sakura-clinic/ward-1");
    });
    assert_eq!(of(&none).0, Refusal::CertificateIdentity);
    let nul = odd(|p| p.subject_alt_names = vec![uri("spiffe://sekisho.example/site/a/device/dev1\0.evil")]);
    assert_eq!(of(&nul).0, Refusal::CertificateIdentity);
    let wild = odd(|p| p.subject_alt_names = vec![uri("spiffe://sekisho.example/site/a/device/*")]);
    assert_eq!(of(&wild).0, Refusal::CertificateIdentity);
    let foreign = odd(|p| p.subject_alt_names = vec![uri("spiffe://other.example/site/a/device/b")]);
    assert_eq!(of(&foreign).0, Refusal::CertificateIdentity);

    let good = device_certificate("sakura-clinic", "ward-1");
    door.clock.set(later(YEAR + Duration::from_secs(1)));
    assert_eq!(of(&good), (Refusal::CertificateExpired, A::CertificateExpired));
    door.clock.set(UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs() - 86_400)));
    assert_eq!(of(&good), (Refusal::CertificateNotYetValid, A::CertificateExpired));
}

#[test]
fn the_registry_has_the_last_word_and_the_device_is_named() {
    let door = Door::new(Profile::CryptrecHigh);
    let issued = device_certificate("sakura-clinic", "ward-1");
    for refusal in [Refusal::DeviceUnregistered, Refusal::DeviceSuspended, Refusal::SiteSuspended] {
        *door.registry.lock().unwrap() = Err(refusal);
        let error = door.knock(&issued).err().unwrap();
        assert_eq!(refusal_of(&error), (refusal, "device `sakura-clinic/ward-1`".to_owned()));
        assert_eq!(refused_device(&error), Some(&device("sakura-clinic", "ward-1")));
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        assert_eq!(refusal_of_io(&wrapped).0, refusal);
    }
    let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert_eq!(refusal_of_io(&lost).0, Refusal::HandshakeFailed);
    assert_eq!(refusal_of(&Error::NoApplicationProtocol).0, Refusal::HandshakeFailed);
}

#[test]
fn certificates_that_do_not_belong_to_the_chain_mean_nothing() {
    let door = Door::new(Profile::CryptrecHigh);
    let issued = device_certificate("sakura-clinic", "ward-1");
    let other = device_certificate("momiji-hospital", "desk-1").certificate_pem;
    let extra = format!("{other}{}{}", other_authority().certificate_pem(), authority().certificate_pem());
    let met = door.meet(&door.client(Profile::CryptrecHigh, Some(&issued), &extra)).unwrap();
    assert_eq!(door.peer(&met).unwrap().device(), Some(&device("sakura-clinic", "ward-1")));
}

#[test]
fn a_certificate_without_its_key_proves_nothing() {
    let door = Door::new(Profile::CryptrecHigh);
    let stolen = der(&device_certificate("momiji-hospital", "desk-1").certificate_pem);
    let mine = device_certificate("sakura-clinic", "ward-1");
    let mut client = (*door.client(Profile::CryptrecHigh, Some(&mine), "")).clone();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(mine.key_pem.expose().as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let forged = rustls::sign::CertifiedKey::new(vec![stolen], key);
    client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(forged));
    let error = door.meet(&Arc::new(client)).err().unwrap();
    assert_eq!(refusal_of(&error).0, Refusal::HandshakeFailed);
    assert_eq!(LAST_ALERT.get(), Some(AlertDescription::DecryptError));
}

/// C8: rustls does not ask the verifier when a session is resumed; `peer` judges it anew.
#[test]
fn a_resumed_session_is_judged_anew() {
    let door = Door::new(Profile::CryptrecHigh);
    let issued = device_certificate("sakura-clinic", "ward-1");
    let client = door.client(Profile::CryptrecHigh, Some(&issued), "");
    let resume = || {
        let met = door.meet(&client).unwrap();
        assert_eq!(met.server.handshake_kind(), Some(HandshakeKind::Resumed));
        met
    };
    assert!(!door.peer(&door.meet(&client).unwrap()).unwrap().resumed());
    let peer = door.peer(&resume()).unwrap();
    assert!(peer.resumed());
    assert_eq!(peer.device(), Some(&device("sakura-clinic", "ward-1")));

    *door.registry.lock().unwrap() = Err(Refusal::DeviceSuspended);
    let refused = door.peer(&resume()).unwrap_err();
    assert_eq!((refused.refusal, refused.device), (Refusal::DeviceSuspended, Some(device("sakura-clinic", "ward-1"))));
    *door.registry.lock().unwrap() = Ok(());

    let met = resume();
    let other = verifier(other_authority().certificate_pem(), &door.registry);
    assert_eq!(other.peer(&met.server, NOW).unwrap_err().refusal, Refusal::CertificateUntrusted);
    let expired = door.verifier.peer(&met.server, later(YEAR + Duration::from_secs(1))).unwrap_err();
    assert_eq!(expired.refusal, Refusal::CertificateExpired);
    assert!(door.peer(&met).is_ok());
}

#[test]
fn a_chain_can_be_rechecked_at_any_time() {
    let door = Door::new(Profile::CryptrecHigh);
    let chain = [der(&device_certificate("sakura-clinic", "ward-1").certificate_pem)];
    assert!(door.verifier.recheck(&chain, NOW).is_ok());
    assert!(door.verifier.recheck(&chain, later(YEAR)).is_ok());
    let refused = |chain: &[_], now| door.verifier.recheck(chain, now).unwrap_err().refusal;
    assert_eq!(refused(&chain, later(YEAR + Duration::from_secs(1))), Refusal::CertificateExpired);
    assert_eq!(refused(&[], NOW), Refusal::CertificateMissing);
    assert_eq!(refused(&[CertificateDer::from(vec![0x30, 0x00])], NOW), Refusal::CertificateMalformed);
    let unfinished = ServerConnection::new(Arc::clone(&door.config)).unwrap();
    assert_eq!(door.verifier.peer(&unfinished, NOW).unwrap_err().refusal, Refusal::HandshakeFailed);
}

#[test]
fn without_a_server_name_the_rules_are_the_same() {
    let door = Door::new(Profile::CryptrecHigh);
    let knock = |issued: Option<&Issued>| {
        let met = door.meet_as(&door.client(Profile::CryptrecHigh, issued, ""), "127.0.0.1")?;
        assert_eq!(met.server.server_name(), None);
        Ok(door.peer(&met).unwrap())
    };
    assert!(knock(Some(&device_certificate("sakura-clinic", "ward-1"))).is_ok());
    let refusal = |outcome: Result<VerifiedPeer, Error>| refusal_of(&outcome.unwrap_err()).0;
    assert_eq!(refusal(knock(None)), Refusal::CertificateMissing);
    let stranger = other_authority().issue_device(&domain(), &device("a", "b"), YEAR, NOW).unwrap();
    assert_eq!(refusal(knock(Some(&stranger))), Refusal::CertificateUntrusted);
}

#[test]
fn a_ticket_opens_only_the_door_it_was_given_at() {
    let (one, two) = (Door::new(Profile::CryptrecHigh), Door::new(Profile::CryptrecHigh));
    let client = one.client(Profile::CryptrecHigh, Some(&device_certificate("sakura-clinic", "ward-1")), "");
    one.meet(&client).unwrap();
    let met = two.meet(&client).unwrap();
    assert_eq!(met.server.handshake_kind(), Some(HandshakeKind::Full));
    assert!(!two.peer(&met).unwrap().resumed());
}

#[test]
fn a_backend_of_another_authority_is_refused() {
    let door = Door::new(Profile::CryptrecHigh);
    let config = client_config(ClientSettings {
        profile: Profile::CryptrecHigh,
        verifier: trusting(other_authority().certificate_pem()),
        identity: None,
        alpn: &[b"h2"],
        clock: Clock::new(),
    });
    let error = door.meet(&Arc::new(config.unwrap())).err().unwrap();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer)), "{error}");
}

/// Root, intermediate and leaf, with an extension of the caller's in the intermediate.
fn three_levels(extension: Option<rcgen::CustomExtension>) -> (String, [CertificateDer<'static>; 2]) {
    let parameters = |name: &str| {
        let mut params = crate::issue::params(NOW, YEAR, later(YEAR)).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let authority = |name: &str| {
        let mut params = parameters(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params
    };
    let keys = [(); 3].map(|()| rcgen::KeyPair::generate().unwrap());
    let root = authority("root").self_signed(&keys[0]).unwrap();
    let root_issuer = rcgen::Issuer::new(authority("root"), &keys[0]);
    let mut middle_params = authority("middle");
    middle_params.custom_extensions.extend(extension);
    let middle = middle_params.signed_by(&keys[1], &root_issuer).unwrap();
    let middle_issuer = rcgen::Issuer::new(middle_params, &keys[1]);
    let mut leaf = parameters("leaf");
    leaf.subject_alt_names = vec![uri("spiffe://sekisho.example/site/sakura-clinic/device/ward-1")];
    let leaf = leaf.signed_by(&keys[2], &middle_issuer).unwrap();
    (root.pem(), [leaf.into(), middle.into()])
}

/// A critical nameConstraints extension with one permitted URI host.
fn permitted_uri(host: &str) -> rcgen::CustomExtension {
    let wrap = |tag: u8, content: Vec<u8>| {
        let mut value = vec![tag, u8::try_from(content.len()).unwrap()];
        value.extend(content);
        value
    };
    let subtree = wrap(0x30, wrap(0x86, host.as_bytes().to_vec()));
    let mut extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], wrap(0x30, wrap(0xa0, subtree)));
    extension.set_criticality(true);
    extension
}

#[test]
fn a_chain_through_an_intermediate_needs_the_intermediate() {
    let (root, chain) = three_levels(None);
    let verifier = verifier(&root, &Arc::new(Mutex::new(Ok(()))));
    assert_eq!(verifier.recheck(&chain, NOW).unwrap().device(), Some(&device("sakura-clinic", "ward-1")));
    assert_eq!(verifier.recheck(&chain[..1], NOW).unwrap_err().refusal, Refusal::CertificateUntrusted);
}

/// C9, RUSTSEC-2026-0098: a constraint on URIs that is not applied is a constraint that is broken.
#[test]
fn a_uri_outside_the_name_constraint_is_refused() {
    let (root, chain) = three_levels(Some(permitted_uri("other.example")));
    let verifier = verifier(&root, &Arc::new(Mutex::new(Ok(()))));
    let refused = verifier.recheck(&chain, NOW).unwrap_err();
    assert_eq!(refused.refusal, Refusal::CertificateName);
    assert!(refused.detail.contains("spiffe://sekisho.example/site/sakura-clinic/device/ward-1"), "{}", refused.detail);
    let (root, chain) = three_levels(Some(permitted_uri("sekisho.example")));
    let peer = self::verifier(&root, &Arc::new(Mutex::new(Ok(())))).recheck(&chain, NOW).unwrap();
    assert_eq!(peer.device(), Some(&device("sakura-clinic", "ward-1")));
}

#[test]
fn the_gateway_chooses_the_suite_and_takes_no_early_data() {
    let door = Door::new(Profile::CryptrecHigh);
    let mut client = (*door.client(Profile::CryptrecHigh, Some(&device_certificate("a", "b")), "")).clone();
    let mut provider = (*Profile::CryptrecHigh.provider()).clone();
    provider.cipher_suites.reverse();
    let resolver = Arc::clone(&client.client_auth_cert_resolver);
    client = ClientConfig::builder_with_details(Arc::new(provider), Clock::new())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(trusting(authority().certificate_pem()))
        .with_client_cert_resolver(resolver);
    client.enable_early_data = true;
    let client = Arc::new(client);
    let met = door.meet(&client).unwrap();
    let suite = met.server.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    assert_eq!(door.meet(&client).unwrap().server.handshake_kind(), Some(HandshakeKind::Resumed));
    let mut again = ClientConnection::new(Arc::clone(&client), "localhost".try_into().unwrap()).unwrap();
    again.write_tls(&mut Vec::new()).unwrap();
    assert!(again.early_data().is_none());
    // With stateless tickets rustls offers none whatever the bound says; the bound holds by itself.
    assert_eq!(door.config.max_early_data_size, 0);
}

#[test]
fn without_resumption_every_handshake_is_full() {
    let mut door = Door::new(Profile::CryptrecHighTls12);
    let issued = server_certificate();
    let identity =
        ServerIdentity::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.expose().as_bytes()).unwrap();
    let config = server_config(ServerSettings {
        certificates: crate::profile::ClientCertificates::Required,
        profile: Profile::CryptrecHighTls12,
        resolver: identity.resolver(),
        verifier: Arc::clone(&door.verifier),
        alpn: &[],
        resumption: Resumption::Off,
        clock: Arc::clone(&door.clock) as _,
    });
    door.config = Arc::new(config.unwrap());
    let client = door.client(Profile::CryptrecHigh, Some(&device_certificate("a", "b")), "");
    for _ in 0..3 {
        assert_eq!(door.meet(&client).unwrap().server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// A critical certificatePolicies extension, as every HPKI certificate has one. webpki refuses it.
pub(super) fn critical_policies() -> rcgen::CustomExtension {
    let policies = vec![0x30, 0x0d, 0x30, 0x0b, 0x06, 0x09, 0x2a, 0x83, 0x08, 0x86, 0x91, 0x0f, 0x01, 0x05, 0x02];
    let mut extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 32], policies);
    extension.set_criticality(true);
    extension
}

#[test]
fn critical_policies_open_the_door() {
    let issued = odd(|p| p.custom_extensions.push(critical_policies()));
    for profile in Profile::ALL {
        let door = Door::new(profile);
        for version in profile.versions() {
            let pair = issued.key_pem.expose().as_bytes();
            let identity = ServerIdentity::from_pem(issued.certificate_pem.as_bytes(), pair).unwrap();
            let client = ClientConfig::builder_with_details(profile.provider(), Clock::new())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(trusting(authority().certificate_pem()))
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity.certified_key())));
            let met = door.meet(&Arc::new(client)).unwrap();
            assert_eq!(met.server.protocol_version(), Some(version.version));
            assert_eq!(door.peer(&met).unwrap().device(), Some(&device("sakura-clinic", "ward-1")));
        }
    }
}
