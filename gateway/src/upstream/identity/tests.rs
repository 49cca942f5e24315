use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use policy::{AuthenticationLevel, DeviceId, DeviceName};

use super::*;

const NOW: u64 = 1_800_000_000;
const CERTIFICATE: [u8; 32] = [7; 32];

fn party(site: &str, device: &str, user: Option<&str>) -> Party {
    let device = DeviceId { site: SiteName::new(site).unwrap(), device: DeviceName::new(device).unwrap() };
    Party::Device { device, user: user.map(|user| UserName::new(user).unwrap()) }
}

fn alone() -> Party {
    Party::User { site: SiteName::new("sakura-clinic").unwrap(), user: UserName::new("sato").unwrap() }
}

fn patient() -> Party {
    Party::Patient(policy::Patient::new(&[0xab; 32], "山 taro@example.jp").unwrap())
}

fn subject() -> Subject {
    Subject {
        party: party("sakura-clinic", "ward-1", Some("sato")),
        roles: [RoleName::new("doctor").unwrap()].into_iter().collect(),
        authentication_level: AuthenticationLevel::Device,
        versions: EntityVersions { site: 1, device: 2, user: 3 },
        acting_for: None,
    }
}

struct Fixture {
    key: Arc<SigningKey>,
    identities: Identities,
    service: ServiceName,
    _folder: tempfile::TempDir,
}

fn fixture(capacity: usize) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let key = Arc::new(SigningKey::load_or_create(&folder.path().join("identity.key")).unwrap());
    let identities = Identities::new(Arc::clone(&key), "sekisho.example", capacity);
    Fixture { key, identities, service: ServiceName::new("fhir").unwrap(), _folder: folder }
}

impl Fixture {
    fn token(&self, subject: &Subject, now: u64) -> String {
        self.token_for(subject, &CERTIFICATE, "fhir", now)
    }

    fn token_for(&self, subject: &Subject, certificate: &[u8; 32], audience: &str, now: u64) -> String {
        let statement = Statement {
            subject,
            spiffe_id: Some("spiffe://sekisho.example/site/sakura-clinic/device/ward-1"),
            certificate_sha256: Some(certificate),
            service: &self.service,
            audience,
        };
        self.identities.token(&statement, now).unwrap().to_str().unwrap().to_owned()
    }
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// Verifies as a backend would: with nothing but the JWK set.
fn verified(token: &str, jwks: &str) -> Option<(Value, Value)> {
    let jwks: Value = serde_json::from_str(jwks).unwrap();
    let key = &jwks["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&"EC".into(), &"P-256".into(), &"ES256".into(), &"sig".into())
    );
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        point.extend(URL_SAFE_NO_PAD.decode(key[coordinate].as_str().unwrap()).unwrap());
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{token}") };
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(part(header)["kid"], key["kid"]);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(format!("{header}.{claims}").as_bytes(), &signature)
        .ok()
        .map(|()| (part(header), part(claims)))
}

#[test]
fn a_backend_can_verify_a_token_with_the_published_key_alone() {
    let fixture = fixture(8);
    let token = fixture.token(&subject(), NOW);
    let (header, claims) = verified(&token, &fixture.key.jwks_json()).expect("the signature is good");
    assert_eq!((&header["alg"], &header["typ"]), (&"ES256".into(), &"JWT".into()));
    let wanted = serde_json::json!({
        "iss": "sekisho.example", "aud": "fhir", "iat": NOW, "exp": NOW + 60,
        "sub": "spiffe://sekisho.example/site/sakura-clinic/device/ward-1",
        "site": "sakura-clinic", "device": "ward-1", "user": "sato", "roles": ["doctor"], "level": "device",
        "cnf": { "x5t#S256": URL_SAFE_NO_PAD.encode(CERTIFICATE) },
    });
    assert_eq!(claims, wanted);

    let parts: Vec<&str> = token.split('.').collect();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let forged = URL_SAFE_NO_PAD.encode(claims.replace("doctor", "wizard"));
    let forged = format!("{}.{forged}.{}", parts[0], parts[2]);
    assert_eq!(verified(&forged, &fixture.key.jwks_json()), None);

    let nobody =
        Subject { party: party("sakura-clinic", "ward-1", None), roles: [].into_iter().collect(), ..subject() };
    let (_, claims) = verified(&fixture.token(&nobody, NOW), &fixture.key.jwks_json()).unwrap();
    assert_eq!((claims.get("user"), &claims["roles"]), (None, &serde_json::json!([])));
}

#[test]
fn who_has_no_device_is_named_otherwise() {
    let fixture = fixture(8);
    let claims = |party: Party| {
        let subject = Subject { party, ..subject() };
        verified(&fixture.token(&subject, NOW), &fixture.key.jwks_json()).unwrap().1
    };
    let user = claims(alone());
    assert_eq!(
        (&user["sub"], &user["site"], &user["user"]),
        (&"user:sakura-clinic/sato".into(), &"sakura-clinic".into(), &"sato".into())
    );
    assert!(user.get("device").is_none() && user.get("patient").is_none(), "{user}");
    let patient = claims(patient());
    let issuer = "ab".repeat(16);
    assert_eq!(patient["sub"], format!("patient:{issuer}/%E5%B1%B1%20taro@example.jp"));
    assert_eq!(patient["patient"], format!("{issuer}/山 taro@example.jp"));
    assert!(["site", "device", "user"].iter().all(|key| patient.get(*key).is_none()), "{patient}");
}

#[test]
fn the_key_is_named_as_rfc_7638_says() {
    let fixture = fixture(1);
    let jwks: Value = serde_json::from_str(&fixture.key.jwks_json()).unwrap();
    let key = &jwks["keys"][0];
    let canonical = serde_json::json!({"crv": key["crv"], "kty": key["kty"], "x": key["x"], "y": key["y"]}).to_string();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    assert_eq!(key["kid"], URL_SAFE_NO_PAD.encode(digest));
}

#[test]
fn a_token_is_reused_while_it_is_fresh_and_for_the_same_asker_only() {
    let fixture = fixture(64);
    let subject = subject();
    let first = fixture.token(&subject, NOW);
    assert_eq!(fixture.token(&subject, NOW + LIFETIME_S - FRESH_S), first);
    let second = fixture.token(&subject, NOW + LIFETIME_S - FRESH_S + 1);
    assert_ne!(second, first);
    assert_eq!(fixture.token(&subject, NOW + 50), second);
    // The clock was stepped back: the token would claim to be from the future.
    assert_ne!(fixture.token(&subject, NOW), second);

    let same = fixture.token(&subject, NOW);
    assert_eq!(fixture.token(&subject, NOW), same);
    let mut others = vec![
        fixture.token_for(&subject, &[8; 32], "fhir", NOW),
        fixture.token_for(&subject, &CERTIFICATE, "other", NOW),
    ];
    for change in [
        (|s| s.versions.site = 9) as fn(&mut Subject),
        |s| s.versions.device = 9,
        |s| s.versions.user = 9,
        |s| s.party = party("sakura-clinic", "ward-1", None),
        |s| s.party = alone(),
        |s| s.party = patient(),
        |s| s.authentication_level = AuthenticationLevel::User,
        |s| s.roles.push(RoleName::new("nurse").unwrap()),
        |s| s.party = party("sakura-clinic", "ward-2", Some("sato")),
        |s| s.party = party("momiji-hospital", "ward-1", Some("sato")),
    ] {
        let mut other = self::subject();
        change(&mut other);
        others.push(fixture.token(&other, NOW));
    }
    assert!(!others.contains(&same), "a token is never shared between askers");
    let all: std::collections::HashSet<_> = others.iter().collect();
    assert_eq!(all.len(), others.len());
}

#[test]
fn the_cache_is_bounded() {
    let fixture = fixture(4);
    for version in 0..50 {
        let mut subject = subject();
        subject.versions.device = version;
        fixture.token(&subject, NOW);
        assert!(fixture.identities.tokens.borrow().len() <= 4);
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_alone_and_refused_when_exposed_or_strange() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    let made = SigningKey::load_or_create(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let read = SigningKey::load_or_create(&path).unwrap();
    assert_eq!(read.jwks_json(), made.jwks_json());
    assert!(!format!("{read:?}").contains("PRIVATE"));

    let set_mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o666] {
        set_mode(mode);
        let error = SigningKey::load_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{mode:03o}")), "{error}");
    }
    set_mode(0o600);
    std::fs::write(&path, "not a key").unwrap();
    assert!(matches!(SigningKey::load_or_create(&path), Err(KeyError::Malformed { .. })));
    let p384 = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(
        &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(p384.as_ref())
    );
    std::fs::write(&path, pem).unwrap();
    assert!(matches!(SigningKey::load_or_create(&path), Err(KeyError::Malformed { .. })));
    let nowhere = SigningKey::load_or_create(Path::new("/nonexistent/identity.key")).unwrap_err();
    assert!(matches!(nowhere, KeyError::File { .. }));
}
