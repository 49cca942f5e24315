//! Issuers of tokens and OpenID providers: what could be abused is refused by its key.

use super::*;

#[test]
fn an_issuer_that_could_be_abused_is_refused_by_its_key() {
    let found = parse(&format!("{MINIMAL}token = {{ issuers = [\"idp\"] }}\n{ISSUER}")).unwrap();
    let token = found.routes[0].token.as_ref().unwrap();
    assert_eq!((token.required, token.forward), (true, false), "the safe side");
    assert_eq!(found.token_issuers[0].rules.binding, ::policy::token::Binding::Required);
    let with = |from: &str, to: &str| problems(&format!("{MINIMAL}{}", ISSUER.replace(from, to)));
    let file = "jwks_file = \"idp.json\"";
    for (from, to, key, why) in [
        ("[\"ES256\"]", "[\"none\"]", "algorithms[0]", "proves nothing"),
        ("[\"ES256\"]", "[\"ES256\", \"HS256\"]", "algorithms[1]", "symmetric"),
        ("[\"ES256\"]", "[]", "algorithms", "empty"),
        ("[\"sekisho\"]", "[]", "audiences", "empty"),
        ("[\"sekisho\"]", "[\"\"]", "audiences[0]", "empty"),
        ("sites = [\"*\"]", "", "sites", "missing"),
        ("sites = [\"*\"]", "sites = [\"*\", \"a\"]", "sites[0]", "no site"),
        ("sites = [\"*\"]", "sites = [\"a\"]\nsite_claim = \"/s\"", "site_claim", "no use"),
        ("sites = [\"*\"]", "site_claim = \"site\"", "site_claim", "pointer"),
        ("sites", "user_claim = \"sub\"\nsites", "user_claim", "pointer"),
        ("sites", "bound = \"never\"\nsites", "bound", "must be"),
        ("sites", "roles = [{ claim = \"a\", role = \"b\" }]\nsites", "roles", "role_claims"),
        (file, "", "jwks_uri", "exactly one"),
        (file, "jwks_file = \"a\"\nintrospection_uri = \"http://127.0.0.1/\"", "jwks_uri", "exactly one"),
        (file, "jwks_uri = \"http://idp.example/\"", "jwks_uri", "loopback"),
        (file, "jwks_uri = \"https://idp.example/\"", "jwks_uri", "ca_file"),
        (file, "jwks_uri = \"ftp://idp.example/\"", "jwks_uri", "https"),
        (file, "introspection_uri = \"http://127.0.0.1/\"", "introspection_uri", "who asks"),
        (file, "introspection_uri = \"http://127.0.0.1/\"\nclient_id = \"a\"", "client_secret_file", "go together"),
        ("sites", "client_id = \"a\"\nsites", "client_id", "introspection_uri"),
    ] {
        let found = with(from, to);
        assert!(found.iter().any(|problem| problem.contains(key) && problem.contains(why)), "{to}: {found:?}");
    }
    let twice = problems(&format!("{MINIMAL}{ISSUER}{ISSUER}"));
    assert!(twice[0].contains("another token issuer"), "{twice:?}");
    for (token, key) in [
        ("{ issuers = [\"ldap\"] }", "route[0].token.issuers[0]"),
        ("{ issuers = [] }", "route[0].token.issuers"),
        ("{}", "route[0].token.issuers"),
        ("{ issuers = [\"idp\"], optional = true }", "route[0].token.optional"),
    ] {
        let found = problems(&format!("{MINIMAL}token = {token}\n{ISSUER}"));
        assert!(found.len() == 1 && found[0].contains(key), "{token}: {found:?}");
    }
    // Nobody can tell whose an opaque token is.
    let opaque = |name: &str| {
        let asked = "introspection_uri = \"http://127.0.0.1/\"\nclient_id = \"a\"\nclient_secret_file = \"s\"";
        ISSUER.replace("\"idp\"\n", &format!("\"{name}\"\n")).replace(file, asked)
    };
    let token = "token = { issuers = [\"one\", \"two\"] }\n";
    let found = problems(&format!("{MINIMAL}{token}{}{}", opaque("one"), opaque("two")));
    assert!(found.len() == 1 && found[0].contains("route[0].token.issuers[1]"), "{found:?}");
    let basic =
        "login = { account = { basic = true }, success = { status = [200] } }\ntoken = { issuers = [\"idp\"] }\n";
    let found = problems(&format!("{MINIMAL}{basic}{ISSUER}"));
    assert!(found[0].contains("cannot hold a token as well"), "{found:?}");
}

const PROVIDER: &str = r#"
[[oidc]]
name = "staff"
issuer = "http://127.0.0.1:8080/realms/staff"
client_id = "sekisho"
client_secret_file = "secret"
origins = ["https://localhost:8443"]
algorithms = ["ES256"]
sites = ["*"]
"#;

#[test]
fn a_provider_that_could_be_abused_is_refused_by_its_key() {
    let listener = "server_names = [\"gateway.sekisho.example\"]\n";
    let serving = MINIMAL.replace(listener, &format!("{listener}oidc = [\"staff\"]\n"));
    let whole = format!("{serving}oidc = {{ provider = \"staff\" }}\n{PROVIDER}");
    let found = parse(&whole).unwrap();
    let staff = &found.oidc[0];
    assert_eq!((staff.scope.as_str(), staff.max_age_s, staff.login.as_secs()), ("openid", 43_200, 600));
    assert_eq!(staff.rules().audiences, ["sekisho"]);
    assert_eq!(staff.rules().kind, ::policy::token::TokenType::IdToken);
    assert!(found.listeners[0].has_pages() && found.back_channel.is_none());
    let secret = "client_secret_file = \"secret\"";
    for (from, to, key, why) in [
        ("127.0.0.1:8080/realms/staff", "idp.example/", "issuer", "loopback"),
        ("http://127.0.0.1:8080/realms/staff", "https://idp.example/", "issuer", "ca_file"),
        ("/realms/staff", "/realms?x=1", "issuer", "without query"),
        ("client_id = \"sekisho\"", "", "client_id", "missing"),
        ("\"sekisho\"", "\"\"", "client_id", "in ASCII"),
        (secret, "", "client_secret_file", "exactly one"),
        (secret, "client_secret_file = \"a\"\nkey_file = \"b\"", "client_secret_file", "exactly one"),
        ("https://localhost:8443", "http://localhost:8443", "origins[0]", "https://"),
        ("https://localhost:8443", "https://localhost:443", "origins[0]", "https://"),
        ("https://localhost:8443", "https://localhost:8443/", "origins[0]", "nothing more"),
        ("https://localhost:8443", "https://Localhost:8443", "origins[0]", "lower case"),
        ("https://localhost:8443", "https://*.example", "origins[0]", "nothing more"),
        ("[\"https://localhost:8443\"]", "[]", "origins", "empty"),
        ("[\"ES256\"]", "[\"none\"]", "algorithms[0]", "proves nothing"),
        ("[\"ES256\"]", "[\"HS256\"]", "algorithms[0]", "symmetric"),
        ("sites = [\"*\"]", "", "sites", "missing"),
        ("sites", "scopes = [\"profile\"]\nsites", "scopes", "openid"),
        ("sites", "scopes = [\"openid email\"]\nsites", "scopes[0]", "blanks"),
        ("sites", "acr_values = [\"\"]\nsites", "acr_values[0]", "word"),
        ("sites", "max_age_s = 0\nsites", "max_age_s", "60"),
        ("sites", "login_s = 100000\nsites", "login_s", "3600"),
        ("sites", "audiences = [\"a\"]\nsites", "audiences", "unknown"),
        ("sites", "role_claims = [\"/a\"]\nsites", "role_claims", "unknown"),
        ("name = \"staff\"", "name = \"a/b\"", "name", "letters"),
    ] {
        let found = problems(&whole.replace(PROVIDER, &PROVIDER.replace(from, to)));
        assert!(found.iter().any(|problem| problem.contains(key) && problem.contains(why)), "{to}: {found:?}");
    }
    let found = problems(&format!("{whole}{PROVIDER}"));
    assert!(found[0].contains("another identity provider"), "{found:?}");
    let found = problems(&format!("{whole}{}", ISSUER.replace("\"idp\"", "\"staff\"")));
    assert!(found[0].contains("another identity provider"), "{found:?}");
    let found = problems(&whole.replace("provider = \"staff\"", "provider = \"other\""));
    assert!(found.len() == 1 && found[0].contains("route[0].oidc.provider"), "{found:?}");
    let found = problems(&whole.replace("oidc = [\"staff\"]", "oidc = [\"other\"]"));
    assert!(found.iter().any(|problem| problem.contains("listener[0].oidc[0]")), "{found:?}");
    let found = problems(&format!("{MINIMAL}oidc = {{ provider = \"staff\" }}\n{PROVIDER}"));
    assert!(found.len() == 1 && found[0].contains("nobody could log in"), "{found:?}");
    let found = problems(&whole.replace("tls = {", "tls = { peers = \"users\", "));
    assert!(found.iter().any(|problem| problem.contains("listener[0].oidc")), "{found:?}");
    for (table, why) in [
        ("", "listen` is missing"),
        ("listen = \"10.0.0.5:9445\"", "loopback"),
        ("listen = \"127.0.0.1:9443\"", "listens there"),
        ("listen = \"127.0.0.1:9445\"\nkey_file = \"a\"", "go together"),
    ] {
        let found = problems(&format!("{MINIMAL}[back_channel]\n{table}\n"));
        assert!(
            found.iter().any(|problem| problem.contains("back_channel") && problem.contains(why)),
            "{table}: {found:?}"
        );
    }
    assert!(parse(&format!("{MINIMAL}[back_channel]\nlisten = \"127.0.0.1:9445\"\n")).unwrap().back_channel.is_some());
}
