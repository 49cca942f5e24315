//! Vectors of the RFCs, a table of attacks, and properties.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const CERTIFICATE: [u8; 32] = [7; 32];
const ISSUER: &str = "https://idp.example/clinic";

/// An issuer's keys: `ec` and `rsa`.
struct Issuer {
    pkcs8: Vec<u8>,
    rsa: RsaKeyPair,
    keys: KeySet,
    jwks: Value,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwk_of(pair: &EcdsaKeyPair, id: &str) -> Value {
    let point = pair.public_key().as_ref();
    json!({"kty": "EC", "crv": "P-256", "kid": id, "x": b64(&point[1..33]), "y": b64(&point[33..])})
}

static IDP: LazyLock<Issuer> = LazyLock::new(|| {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pkcs8 = pkcs8.as_ref().to_vec();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
    // RFC 8017 A.1.1: a sequence of two integers, of which the second is 65,537.
    let n = &rsa.public_key().as_ref()[9..265];
    let rsa_jwk = json!({"kty": "RSA", "kid": "rsa", "n": b64(n), "e": "AQAB", "use": "sig"});
    let jwks = json!({"keys": [jwk_of(&pair, "ec"), rsa_jwk]});
    let keys = KeySet::parse(jwks.to_string().as_bytes()).unwrap();
    Issuer { pkcs8, rsa, keys, jwks }
});

fn rules() -> Rules {
    Rules {
        name: "idp".into(),
        issuer: ISSUER.to_owned(),
        audiences: vec!["sekisho".to_owned(), "https://gw.example".to_owned()],
        algorithms: vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256],
        kind: TokenType::AccessToken,
        binding: Binding::Required,
        user: "/preferred_username".to_owned(),
        sites: Sites::Of(vec!["sakura".parse().unwrap()]),
        roles: Vec::new(),
        role_map: std::collections::BTreeMap::new(),
        two_factor_acr: vec!["loa3".to_owned()],
        two_factor_amr: vec!["mfa".to_owned(), "otp".to_owned()],
        leeway_s: 5,
        max_lifetime_s: 86_400,
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "sekisho", "sub": "7f", "preferred_username": "dr-sato", "jti": "1", "client_id": "ehr",
        "iat": NOW - 10, "exp": NOW + 300, "cnf": {"x5t#S256": b64(CERTIFICATE)},
    })
}

fn header(algorithm: &str, key: &str) -> Value {
    json!({"alg": algorithm, "typ": "at+jwt", "kid": key})
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm, message: &str) -> Vec<u8> {
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, &IDP.pkcs8).unwrap();
    pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
}

fn rsa(encoding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
    let mut signature = vec![0; IDP.rsa.public_modulus_len()];
    IDP.rsa.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    signature
}

/// A token of these texts.
fn raw(header: &str, claims: &str, sign: impl FnOnce(&str) -> Vec<u8>) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = b64(sign(&message));
    format!("{message}.{signature}")
}

fn es256(message: &str) -> Vec<u8> {
    ec(&ECDSA_P256_SHA256_FIXED_SIGNING, message)
}

fn token(claims: &Value) -> String {
    raw(&header("ES256", "ec").to_string(), &claims.to_string(), es256)
}

fn at(seconds: i64) -> Now {
    Now { unix_ns: seconds * 1_000_000_000, error_ns: 1_000_000 }
}

/// All steps, in the gateway's order.
fn take_at(rules: &Rules, keys: &KeySet, token: &str, now: Now) -> Result<Said, Fault> {
    let claims = Unverified::read(token)?.verify(rules.kind, &rules.algorithms, keys)?;
    let said = rules.judge(&claims, now)?;
    said.holds(now, Some(&CERTIFICATE), &"sakura".parse().unwrap())?;
    Ok(said)
}

fn take(rules: &Rules, token: &str) -> Result<Said, Fault> {
    take_at(rules, &IDP.keys, token, at(NOW))
}

fn with(claim: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[claim] = value.into();
    claims
}

fn without(claim: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

#[test]
fn a_token_says_who_by_which_factors_and_until_when() {
    let said = take(&rules(), &token(&claims())).unwrap();
    assert_eq!((said.user.as_str(), &*said.issuer), ("dr-sato", "idp"));
    assert_eq!(said.level, AuthenticationLevel::User);
    assert_eq!(said.roles, Roles::Registry);
    assert_eq!(said.thumbprint, Some(CERTIFICATE));
    assert_eq!(said.expires_ns, (NOW + 300) * 1_000_000_000);
    for (claim, value, level) in [
        ("acr", json!("loa3"), AuthenticationLevel::TwoFactor),
        ("acr", json!("loa2"), AuthenticationLevel::User),
        ("amr", json!(["pwd", "otp"]), AuthenticationLevel::TwoFactor),
        ("amr", json!(["pwd"]), AuthenticationLevel::User),
        ("amr", json!({"otp": true}), AuthenticationLevel::User),
    ] {
        assert_eq!(take(&rules(), &token(&with(claim, value.clone()))).unwrap().level, level, "{claim} {value}");
    }
    for (algorithm, sign) in [("RS256", &RSA_PKCS1_SHA256 as &'static dyn RsaEncoding), ("PS256", &RSA_PSS_SHA256)] {
        let token = raw(&header(algorithm, "rsa").to_string(), &claims().to_string(), |text| rsa(sign, text));
        assert!(take(&rules(), &token).is_ok(), "{algorithm}");
    }
    assert!(take(&rules(), &token(&with("aud", json!(["other", "https://gw.example"])))).is_ok());
}

#[test]
fn roles_are_the_registrys_or_fewer_or_what_the_operator_maps() {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<crate::RoleName>>();
    let mut claims = with("realm_access", json!({"roles": ["doctor", "DOC", "no role!"]}));
    claims["department"] = "Cardiology".into();
    let mut rules = rules();
    rules.roles = vec!["/realm_access/roles".to_owned(), "/department".to_owned()];
    let said = take(&rules, &token(&claims)).unwrap().roles;
    assert_eq!(said, Roles::Only(names(&["doctor", "DOC", "Cardiology"])));
    let map = [("DOC", "doctor"), ("Cardiology", "of-cardiology")];
    rules.role_map = map.map(|(claim, role)| (claim.to_owned(), role.parse().unwrap())).into();
    assert_eq!(take(&rules, &token(&claims)).unwrap().roles, Roles::And(names(&["doctor", "of-cardiology"])));
    // Without the claim nobody gets anything.
    assert_eq!(take(&rules, &token(&self::claims())).unwrap().roles, Roles::And(Vec::new()));
    rules.role_map.clear();
    assert_eq!(take(&rules, &token(&self::claims())).unwrap().roles, Roles::Only(Vec::new()));
}

#[test]
fn a_user_is_of_the_sites_that_the_issuer_vouches_for() {
    let mut rules = rules();
    rules.sites = Sites::Of(vec!["ume".parse().unwrap()]);
    assert_eq!(take(&rules, &token(&claims())), Err(Fault::OtherSite));
    rules.sites = Sites::All;
    assert!(take(&rules, &token(&claims())).is_ok());
    rules.sites = Sites::Claim("/site".to_owned());
    assert!(matches!(take(&rules, &token(&claims())), Err(Fault::Malformed(_))));
    for (site, is_ours) in
        [(json!("sakura"), true), (json!("ume"), false), (json!(["ume", "sakura"]), true), (json!([]), false)]
    {
        assert_eq!(take(&rules, &token(&with("site", site.clone()))).is_ok(), is_ours, "{site}");
    }
}

#[test]
fn times_count_with_the_bound_of_the_clocks_error() {
    let late = |error_ms: i64| Now { unix_ns: (NOW + 299) * 1_000_000_000, error_ns: error_ms * 1_000_000 };
    let at_end = |now| take_at(&rules(), &IDP.keys, &token(&claims()), now);
    assert!(at_end(late(999)).is_ok());
    assert_eq!(at_end(late(1_000)), Err(Fault::Expired), "it may have expired");
    assert_eq!(at_end(at(NOW + 300)), Err(Fault::Expired));
    assert_eq!(at_end(at(NOW + 300)).unwrap_err().refusal(), Refusal::TokenExpired);
    for claim in ["nbf", "iat"] {
        assert!(take(&rules(), &token(&with(claim, NOW + 5))).is_ok(), "within the leeway");
        assert_eq!(take(&rules(), &token(&with(claim, NOW + 7))), Err(Fault::NotYet));
    }
    assert!(
        take(&rules(), &token(&with("exp", (NOW + 300) as f64 + 0.5))).is_ok(),
        "RFC 7519 2: it may have a fraction"
    );
    for bad in [json!("1800000300"), json!(-1), json!(1e300), json!(null), json!([NOW + 300]), json!(NOW + 90_000)] {
        assert!(matches!(take(&rules(), &token(&with("exp", bad.clone()))), Err(Fault::Malformed(_))), "{bad}");
        if bad != json!(NOW + 90_000) {
            assert!(take(&rules(), &token(&with("nbf", bad.clone()))).is_err(), "{bad}");
        }
    }
}

#[test]
fn a_bound_token_is_its_holders_alone() {
    let optional = Rules { binding: Binding::Optional, ..rules() };
    assert_eq!(take(&rules(), &token(&without("cnf"))), Err(Fault::NotBound));
    assert!(take(&optional, &token(&without("cnf"))).is_ok());
    for rules in [&rules(), &optional] {
        for cnf in [
            json!({"x5t#S256": b64([8; 32])}),
            json!({"x5t#S256": b64([7; 31])}),
            json!({"x5t#S256": CERTIFICATE.to_vec()}),
            json!({"jkt": b64(CERTIFICATE)}),
            json!({"x5t#S256": b64(CERTIFICATE), "jkt": "x"}),
            json!({}),
            json!(null),
            json!("x"),
        ] {
            let fault = take(rules, &token(&with("cnf", cnf.clone()))).unwrap_err();
            assert_eq!(fault.refusal(), Refusal::TokenNotBound, "{cnf}");
        }
    }
}

/// Attacks on signed tokens (RFC 8725 2, 3), each of which must be refused for good.
#[test]
fn attacks_are_refused() {
    let good = claims().to_string();
    let rsa_key = IDP.rsa.public_key();
    let spki = rsa_key.as_der().unwrap();
    let mac = |secret: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes()).as_ref().to_vec()
    };
    let other = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let other = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, other.as_ref()).unwrap();
    let by_other = |text: &str| other.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec();
    let plus = |name: &str, value: Value| {
        let mut header = header("ES256", "ec");
        header[name] = value;
        header.to_string()
    };
    let es = |header: &str, claims: &str| raw(header, claims, es256);
    let plain = header("ES256", "ec").to_string();
    let mut flipped = token(&claims());
    // A bit of the payload.
    let middle = flipped.len() / 2;
    let byte = if flipped.as_bytes()[middle] == b'A' { "B" } else { "A" };
    flipped.replace_range(middle..=middle, byte);
    let whole = token(&claims());
    let (message, signature) = whole.rsplit_once('.').unwrap();
    let jwk = jwk_of(&other, "mine");
    let long = "x".repeat(5_000);
    let attacks: Vec<(&str, String)> = vec![
        ("alg none, no signature", format!("{}.{}.", b64(r#"{"alg":"none","typ":"at+jwt","kid":"ec"}"#), b64(&good))),
        ("alg none, a signature", raw(&header("none", "ec").to_string(), &good, es256)),
        ("alg NoNe", raw(&header("NoNe", "ec").to_string(), &good, es256)),
        ("alg absent", raw(r#"{"typ":"at+jwt","kid":"ec"}"#, &good, es256)),
        ("alg a list", raw(r#"{"alg":["ES256"],"typ":"at+jwt","kid":"ec"}"#, &good, es256)),
        ("HS256 with the RSA key's SPKI", raw(&header("HS256", "rsa").to_string(), &good, |t| mac(spki.as_ref(), t))),
        (
            "HS256 with the JWKS",
            raw(&header("HS256", "rsa").to_string(), &good, |t| mac(IDP.jwks.to_string().as_bytes(), t)),
        ),
        ("HS256 with nothing", raw(&header("HS256", "ec").to_string(), &good, |t| mac(b"", t))),
        ("ES256 by the RSA key's name", raw(&header("ES256", "rsa").to_string(), &good, es256)),
        ("RS256 by the EC key's name", raw(&header("RS256", "ec").to_string(), &good, |t| rsa(&RSA_PKCS1_SHA256, t))),
        ("PS256 claimed, PKCS#1 made", raw(&header("PS256", "rsa").to_string(), &good, |t| rsa(&RSA_PKCS1_SHA256, t))),
        ("RS256 claimed, PSS made", raw(&header("RS256", "rsa").to_string(), &good, |t| rsa(&RSA_PSS_SHA256, t))),
        (
            "an algorithm that is not listed",
            raw(&header("RS512", "rsa").to_string(), &good, |t| rsa(&signature::RSA_PKCS1_SHA512, t)),
        ),
        ("ES384 on a key of P-256", raw(&header("ES384", "ec").to_string(), &good, es256)),
        ("another's key by the issuer's name", raw(&plain, &good, by_other)),
        ("no key id", raw(r#"{"alg":"ES256","typ":"at+jwt"}"#, &good, es256)),
        ("the key in the header", raw(&plus("jwk", jwk), &good, by_other)),
        ("the key elsewhere", es(&plus("jku", json!("https://evil.example/jwks")), &good)),
        ("the certificate elsewhere", es(&plus("x5u", json!("https://evil.example/x5u")), &good)),
        ("crit", es(&plus("crit", json!(["exp"])), &good)),
        ("crit, empty", es(&plus("crit", json!([])), &good)),
        ("b64", es(&plus("b64", json!(false)), &good)),
        ("zip", es(&plus("zip", json!("DEF")), &good)),
        ("a token in a token", es(&plus("cty", json!("JWT")), &good)),
        ("typ of an ID token", es(&plus("typ", json!("JWT")), &good)),
        ("typ of a log-out token", es(&plus("typ", json!("logout+jwt")), &good)),
        ("typ absent", es(r#"{"alg":"ES256","kid":"ec"}"#, &good)),
        ("alg twice", es(r#"{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"ec"}"#, &good)),
        ("kid twice", es(r#"{"alg":"ES256","typ":"at+jwt","kid":"ec","kid":"rsa"}"#, &good)),
        ("a claim twice", es(&plain, &good.replacen('{', r#"{"aud":"other","#, 1))),
        ("a claim twice, escaped", es(&plain, &good.replacen('{', r#"{"\u0061ud":"other","#, 1))),
        ("a header that is no JSON", es("alg: ES256", &good)),
        ("claims that are no object", es(&plain, "[]")),
        ("a huge header", es(&plus("x", json!(long)), &good)),
        ("a huge token", es(&plain, &with("x", "y".repeat(20_000)).to_string())),
        ("a flipped bit", flipped),
        ("no signature", format!("{message}.")),
        ("a truncated signature", format!("{message}.{}", signature.split_at(signature.len() - 4).0)),
        ("a signature of zeros", format!("{message}.{}", b64([0; 64]))),
        ("r of zeros", format!("{message}.{}", b64([&[0; 32][..], &[1; 32]].concat()))),
        ("a signature in DER", raw(&plain, &good, |t| ec(&ECDSA_P256_SHA256_ASN1_SIGNING, t))),
        ("a signature twice", format!("{message}.{signature}{signature}")),
        ("a padded signature", format!("{message}.{signature}==")),
        ("standard base64", format!("{message}.{}+/", signature.split_at(signature.len() - 2).0)),
        ("a fourth part", format!("{whole}.x")),
        ("a line's end", format!("{whole}\n")),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("another audience", token(&with("aud", "other"))),
        ("an audience that begins alike", token(&with("aud", "sekisho-2"))),
        ("other audiences", token(&with("aud", json!(["other", ["sekisho"]])))),
        ("no audience", token(&without("aud"))),
        ("another issuer", token(&with("iss", "https://idp.example/other"))),
        ("an issuer with a slash", token(&with("iss", format!("{ISSUER}/")))),
        ("no issuer", token(&without("iss"))),
        ("no expiry", token(&without("exp"))),
        ("no user", token(&without("preferred_username"))),
        ("a user that is a list", token(&with("preferred_username", json!(["dr-sato"])))),
        ("a user that is no name", token(&with("preferred_username", "dr-sato "))),
        ("a user in full width", token(&with("preferred_username", "ｄｒ-sato"))),
        ("an empty user", token(&with("preferred_username", ""))),
    ];
    assert!(take(&rules(), &whole).is_ok(), "what they are made of is good");
    for (name, attack) in attacks {
        let fault = take(&rules(), &attack).expect_err(name);
        assert_eq!(fault.refusal(), Refusal::TokenInvalid, "{name}");
        assert_ne!(fault, Fault::UnknownKey, "{name}: no other keys would change it");
    }
    let unknown = raw(&header("ES256", "new").to_string(), &good, es256);
    assert_eq!(take(&rules(), &unknown), Err(Fault::UnknownKey));
}

#[test]
fn issuers_that_know_no_better_may_send_tokens_without_a_type() {
    let loose = Rules { kind: TokenType::Jwt, ..rules() };
    let typed = |kind: Option<&str>| {
        let mut header = header("ES256", "ec");
        match kind {
            Some(kind) => header["typ"] = kind.into(),
            None => drop(header.as_object_mut().unwrap().remove("typ")),
        }
        raw(&header.to_string(), &claims().to_string(), es256)
    };
    for kind in [None, Some("JWT"), Some("jwt"), Some("at+jwt"), Some("application/at+jwt")] {
        assert!(take(&loose, &typed(kind)).is_ok(), "{kind:?}");
    }
    for kind in ["logout+jwt", "dpop+jwt", "secevent+jwt", "", "application/logout+jwt"] {
        assert!(take(&loose, &typed(Some(kind))).is_err(), "{kind}");
    }
    for kind in ["AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(take(&rules(), &typed(Some(kind))).is_ok(), "{kind}");
    }
    assert!(take(&rules(), &typed(Some("text/at+jwt"))).is_err());
}

/// RFC 7515 A.2, A.3 and RFC 8037 A.4: key, algorithm, message and signature.
#[test]
fn the_examples_of_the_rfcs_verify() {
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = json!({"kty": "RSA", "kid": "a", "e": "AQAB", "n": concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ",
        "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2",
        "R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD",
        "TW9gb54h4FRWyuXpoQ")});
    let ec = json!({"kty": "EC", "kid": "a", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let ed = json!({"kty": "OKP", "kid": "a", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    for (key, algorithm, message, signature) in [
        (
            rsa,
            Algorithm::Rs256,
            format!("eyJhbGciOiJSUzI1NiJ9.{joe}"),
            concat!(
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU",
                "Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d",
                "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig",
                "cN_IoypGlUPQGe77Rw"
            ),
        ),
        (
            ec,
            Algorithm::Es256,
            format!("eyJhbGciOiJFUzI1NiJ9.{joe}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            ed,
            Algorithm::EdDsa,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let keys = KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for other in Algorithm::ALL {
            let is_right = keys.verify("a", other, message.as_bytes(), &signature);
            assert_eq!(is_right, other == algorithm, "{algorithm} as {other}");
        }
        assert!(!keys.verify("a", algorithm, &message.as_bytes()[1..], &signature), "{algorithm}");
        assert!(!keys.verify("b", algorithm, message.as_bytes(), &signature), "{algorithm}");
    }
}

#[test]
fn keys_that_can_be_abused_are_left_out() {
    let good = jwk_of(&EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &IDP.pkcs8).unwrap(), "k");
    let rsa = IDP.jwks["keys"][1].clone();
    let parse = |keys: Vec<Value>| KeySet::parse(json!({"keys": keys}).to_string().as_bytes());
    let changed = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key
    };
    assert_eq!(parse(vec![good.clone(), rsa.clone()]).unwrap().len(), 2);
    assert_eq!(
        parse(vec![changed(&good, "alg", json!("ES256")), changed(&rsa, "alg", json!("PS256"))]).unwrap().len(),
        2
    );
    for (name, key) in [
        ("symmetric", json!({"kty": "oct", "kid": "k", "k": b64([1; 32])})),
        ("a secret beside the key", changed(&good, "k", json!("AA"))),
        ("a private key", changed(&good, "d", json!("AA"))),
        ("for encryption", changed(&good, "use", json!("enc"))),
        ("for signing alone", changed(&good, "key_ops", json!(["sign"]))),
        ("of another algorithm", changed(&good, "alg", json!("RS256"))),
        ("of another curve's algorithm", changed(&good, "alg", json!("ES384"))),
        ("of a symmetric algorithm", changed(&good, "alg", json!("HS256"))),
        ("RSA of a curve's algorithm", changed(&rsa, "alg", json!("ES256"))),
        ("without a name", changed(&good, "kid", json!(null))),
        ("not on its curve", changed(&good, "y", json!(b64([1; 32])))),
        ("a short coordinate", changed(&good, "x", json!(b64([1; 31])))),
        ("a curve nobody lists", changed(&good, "crv", json!("secp256k1"))),
        ("a modulus of 1024 bits", changed(&rsa, "n", json!(b64([0xff; 128])))),
        ("a modulus of 2041 bits", changed(&rsa, "n", json!(b64([&[1][..], &[0xff; 255]].concat())))),
        ("a huge modulus", changed(&rsa, "n", json!(b64([0xff; 1025])))),
        ("exponent 1", changed(&rsa, "e", json!("AQ"))),
        ("exponent 3", changed(&rsa, "e", json!("Aw"))),
        ("an even exponent", changed(&rsa, "e", json!("AQAC"))),
        ("a huge exponent", changed(&rsa, "e", json!(b64([0xff; 9])))),
    ] {
        assert_eq!(parse(vec![key.clone()]), Err(InvalidKeys::NoKey), "{name}");
        // It takes none with it.
        assert_eq!(parse(vec![changed(&good, "kid", json!("other")), key]).unwrap().len(), 1, "{name}");
    }
    assert_eq!(parse(vec![good.clone(), good.clone()]), Err(InvalidKeys::NoKey), "which of two is meant nobody knows");
    assert_eq!(parse(vec![good.clone(), changed(&rsa, "kid", json!("k"))]).unwrap().len(), 2, "the algorithm tells");
    assert_eq!(parse(vec![json!({}); 129]), Err(InvalidKeys::TooMany));
    assert_eq!(KeySet::parse(&vec![b' '; MAX_SET_BYTES + 1]), Err(InvalidKeys::TooLong));
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(KeySet::parse(bad.as_bytes()), Err(InvalidKeys::Malformed), "{bad}");
    }
}

#[test]
fn a_claim_is_named_by_a_pointer() {
    for (pointer, is) in [
        ("/sub", true),
        ("/a/b~1c", true),
        ("/~0", true),
        ("", false),
        ("/", false),
        ("sub", false),
        ("/~2", false),
        ("/~", false),
    ] {
        assert_eq!(is_claim(pointer), is, "{pointer}");
    }
    let rules = Rules { user: "/urn:x~1y/name".to_owned(), ..rules() };
    assert_eq!(take(&rules, &token(&with("urn:x/y", json!({"name": "dr-ito"})))).unwrap().user.as_str(), "dr-ito");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// No byte of a token can be another.
    #[test]
    fn no_other_spelling_of_a_token_is_taken(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        static TOKEN: LazyLock<String> = LazyLock::new(|| token(&claims()));
        let mut bytes = TOKEN.clone().into_bytes();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(take(&rules(), &text).is_err());
        }
    }

    /// Whatever comes, it is judged, and nothing is taken.
    #[test]
    fn nothing_panics_and_nothing_is_taken(text in "[ -~]{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,90}") {
        prop_assert!(take(&rules(), &text).is_err());
        let _ = bearer(&[text.as_bytes()]);
        let _ = is_in_query(&text);
        let _ = KeySet::parse(text.as_bytes());
        let _ = pronounced(text.as_bytes(), ISSUER);
    }

    /// A token is good from its beginning to its end, and at no other time.
    #[test]
    fn a_token_holds_in_its_time_alone(begin in 1_000_i64..2_000, length in 1_i64..2_000, now in 0_i64..5_000, error in 0_i64..50) {
        let mut claims = claims();
        claims["iat"] = begin.into();
        claims["exp"] = (begin + length).into();
        let rules = Rules { leeway_s: 0, ..rules() };
        let now = Now { unix_ns: now * 1_000_000_000, error_ns: error * 1_000_000_000 };
        let holds = rules.judge(claims.as_object().unwrap(), now)
            .and_then(|said| said.holds(now, Some(&CERTIFICATE), &"sakura".parse().unwrap())).is_ok();
        let latest = (now.unix_ns + now.error_ns) / 1_000_000_000;
        prop_assert_eq!(holds, begin <= latest && latest < begin + length);
    }
}
