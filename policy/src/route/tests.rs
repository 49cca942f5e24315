use proptest::prelude::*;

use super::*;
use crate::target::CanonicalTarget;

#[derive(serde::Deserialize)]
struct File {
    route: Vec<RouteDefinition>,
}

fn definitions(text: &str) -> Result<Vec<RouteDefinition>, toml::de::Error> {
    toml::from_str::<File>(text).map(|file| file.route)
}

fn table(text: &str) -> RouteTable {
    RouteTable::new(definitions(text).unwrap()).unwrap()
}

const CLINIC: &str = r#"
    [[route]]
    name = "fhir"
    path = "/fhir"
    service = "fhir"
    class = "clinical"
    kind = "fhir"
    rules = [
        { methods = ["GET", "POST", "PUT"], path = "/Observation/**", class = "psychiatric" },
        { methods = ["GET"], path = "/Coverage/**", action = "read", effect = "read-only", class = "administrative" },
        { methods = ["POST"], path = "/Patient/$match", action = "search", effect = "read-only" },
        { methods = ["GET"], path = "/export/{patient}/zip", action = "read", effect = "read-only" },
    ]
    [[route]]
    name = "images"
    path = "/dicom-web"
    service = "images"
    class = "clinical"
    kind = "dicomweb"
    [[route]]
    name = "legacy"
    path = "/app"
    service = "legacy"
    class = "clinical"
    kind = "generic"
    rules = [
        { methods = ["GET"], path = "/chart/{patient}", action = "read", effect = "read-only" },
        { methods = ["GET", "POST"], path = "/find", action = "search", effect = "read-only", patient_query = ["pid"] },
        { methods = ["POST"], path = "/login", action = "login" },
        { methods = ["GET"], path = "/print/*/**", action = "operate", class = "administrative" },
    ]
    [[route]]
    name = "ca"
    path = "/pki/ca/prod"
    service = "legacy"
    class = "administrative"
    kind = "generic"
    [[route]]
    name = "ca-deep"
    path = "/pki/ca/prod/keys"
    service = "legacy"
    class = "secret"
    kind = "generic"
"#;

fn resolve<T>(table: &RouteTable, method: &str, raw: &str, then: impl Fn(Resolved<'_>) -> T) -> Result<T, Refusal> {
    let target = CanonicalTarget::parse(raw.as_bytes(), 16 * 1024).unwrap_or_else(|refusal| panic!("{raw}: {refusal}"));
    table.resolve(crate::route::Place::default(), method, &target).map(then)
}

/// `read`, `search*` and so on, where `*` marks what may change something.
fn meaning(table: &RouteTable, method: &str, raw: &str) -> String {
    let told = resolve(table, method, raw, |r| match r.effect {
        Effect::ReadOnly => r.action.to_string(),
        Effect::Changing => format!("{}*", r.action),
    });
    told.unwrap_or_else(|refusal| refusal.to_string())
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Checks rows of a path and, for each of [`METHODS`], `-` for a method refused or the meaning. HEAD is as GET.
#[track_caller]
fn matrix(prefix: &str, rows: &[(&str, [&str; 6])]) {
    let table = table(CLINIC);
    for (path, row) in rows {
        let raw = format!("{prefix}{path}");
        let seen = METHODS.map(|method| meaning(&table, method, &raw).replace("method-not-allowed", "-"));
        assert_eq!(seen, *row, "{raw}");
        assert_eq!(meaning(&table, "HEAD", &raw), meaning(&table, "GET", &raw), "{raw}");
        if !raw.contains('?') {
            assert_eq!(meaning(&table, "GET", &format!("{raw}/")), meaning(&table, "GET", &raw), "{raw}/");
        }
    }
}

#[test]
fn fhir_interactions() {
    let history = ["search", "-", "-", "-", "-", "read"];
    let form = ["search", "search", "-", "-", "-", "read"];
    let operation = ["operate*"; 6];
    let read_only_operation = ["operate", "operate*", "operate*", "operate*", "operate*", "operate*"];
    let unknown = ["route-unknown"; 6];
    let type_level = ["search", "create*", "update*", "update*", "delete*", "read"];
    matrix(
        "/fhir",
        &[
            ("", ["search", "operate*", "-", "-", "delete*", "read"]),
            ("?_type=Patient&name=x", ["search", "operate*", "-", "-", "delete*", "read"]),
            ("/metadata", ["read", "-", "-", "-", "-", "read"]),
            ("/.well-known/smart-configuration", ["read", "-", "-", "-", "-", "read"]),
            ("/_search", form),
            ("/_history", history),
            ("/Patient", type_level),
            ("/Patient?name=x", type_level),
            ("/Patient/_search", form),
            ("/Patient/_history", history),
            ("/Patient/1", ["read", "-", "update*", "update*", "delete*", "read"]),
            ("/Patient/1/_history", ["read", "-", "-", "-", "delete*", "read"]),
            ("/Patient/1/_history/2", ["read", "-", "-", "-", "delete*", "read"]),
            ("/Patient/1/Observation", history),
            ("/Patient/1/*", history),
            ("/Patient/1/_search", form),
            ("/Patient/1/Observation/_search", form),
            ("/$export", operation),
            ("/$reindex", operation),
            ("/Patient/$match", ["operate*", "search", "operate*", "operate*", "operate*", "operate*"]),
            ("/Patient/1/$everything", read_only_operation),
            ("/Patient/1/%24everything", read_only_operation),
            ("/ValueSet/$expand?url=x", read_only_operation),
            ("/Patient/1/$merge", operation),
            ("/Composition/1/$document?persist=true", operation),
            ("/Patient/1/_history/2/$meta", read_only_operation),
            ("/Patient/1/$everything/x", operation),
            ("/Patient/1/$everything/$merge", operation),
            ("/Patient/1/$Everything", operation),
            ("/patient/1", unknown),
            ("/Patient2/1", unknown),
            ("/.well-known", unknown),
            ("/_search/x", unknown),
            ("/Patient/_delete", unknown),
            ("/Patient/1/photo", unknown),
            ("/Patient/1/Observation/2", unknown),
            ("/Patient/1/_history/2/3", unknown),
            ("/Patient/1/_history/_x", unknown),
            ("/swagger-ui/index.html", unknown),
        ],
    );
}

#[test]
fn fhir_names_its_resource_and_operation() {
    let table = table(CLINIC);
    for (method, raw, kind, operation) in [
        ("GET", "/fhir/Patient/1", Some("Patient"), None),
        ("GET", "/fhir/Patient/1/Observation", Some("Observation"), None),
        ("POST", "/fhir/Patient/1/Observation/_search", Some("Observation"), None),
        ("GET", "/fhir/Observation/_search", Some("Observation"), None),
        ("POST", "/fhir/_search", None, None),
        ("POST", "/fhir", None, None),
        ("POST", "/fhir/Patient", Some("Patient"), None),
        ("GET", "/fhir/Patient/1/$everything", Some("Patient"), Some("$everything")),
        ("GET", "/fhir/Patient/1/%24everything", Some("Patient"), Some("$everything")),
        ("POST", "/fhir/$export", None, Some("$export")),
        ("GET", "/fhir/metadata", None, None),
    ] {
        let seen = resolve(&table, method, raw, |r| {
            (r.resource_type.as_deref().map(str::to_owned), r.operation.as_deref().map(str::to_owned))
        });
        assert_eq!(seen, Ok((kind.map(str::to_owned), operation.map(str::to_owned))), "{method} {raw}");
    }
}

#[test]
fn a_route_says_which_operations_are_harmless() {
    let only = |list: &str| {
        table(&format!(
            "[[route]]\nname='f'\npath='/'\nservice='s'\nclass='c'\nkind='fhir'\nread_only_operations={list}"
        ))
    };
    assert_eq!(meaning(&only("[]"), "GET", "/Patient/1/$everything"), "operate*");
    assert_eq!(meaning(&only("['document']"), "GET", "/Composition/1/$document"), "operate");
    assert_eq!(meaning(&only("['document']"), "POST", "/Composition/1/$document"), "operate*");
}

#[test]
fn dicomweb_transactions() {
    let search = ["search", "-", "-", "-", "-", "read"];
    let part = ["read", "-", "-", "-", "-", "read"];
    let object = ["read", "-", "-", "-", "delete*", "read"];
    let worklist = ["operate", "operate*", "operate*", "operate*", "operate*", "read"];
    let worklist_transaction = ["operate*", "operate*", "operate*", "operate*", "operate*", "read"];
    let unknown = ["route-unknown"; 6];
    matrix(
        "/dicom-web",
        &[
            ("", ["-", "-", "-", "-", "-", "read"]),
            ("/studies", ["search", "create*", "-", "-", "-", "read"]),
            ("/studies?PatientID=1", ["search", "create*", "-", "-", "-", "read"]),
            ("/series", search),
            ("/instances", search),
            ("/studies/1.2/series", search),
            ("/studies/1.2/instances", search),
            ("/studies/1.2/series/3/instances", search),
            ("/studies/1.2", ["read", "create*", "-", "-", "delete*", "read"]),
            ("/studies/1.2/series/3", object),
            ("/studies/1.2/series/3/instances/4", object),
            ("/studies/1.2/metadata", part),
            ("/studies/1.2/rendered", part),
            ("/studies/1.2/series/3/thumbnail", part),
            ("/studies/1.2/series/3/instances/4/metadata", part),
            ("/studies/1.2/series/3/instances/4/frames/1,2", part),
            ("/studies/1.2/series/3/instances/4/frames/1/rendered", part),
            ("/studies/1.2/series/3/instances/4/bulkdata/7FE00010/x", part),
            ("/studies/1.2/series/3/instances/4/pixeldata", part),
            ("/workitems", worklist),
            ("/workitems/1.2", worklist),
            ("/workitems/1.2/state", worklist_transaction),
            ("/workitems/1.2/subscribers/AE", worklist_transaction),
            ("/subscribers/AE", worklist_transaction),
            ("/servers", unknown),
            ("/series/3", unknown),
            ("/studies/1.2/files", unknown),
            ("/studies/1.2/frames/1/x", unknown),
            ("/studies/1.2/series/3/instances/4/metadata/x", unknown),
            ("/Studies", unknown),
        ],
    );
}

#[test]
fn a_generic_request_changes_something_unless_a_rule_denies_it() {
    let default = ["read*", "create*", "update*", "update*", "delete*", "read*"];
    let ruled = |get: &'static str, post: &'static str| [get, post, "update*", "update*", "delete*", "read*"];
    matrix(
        "/app",
        &[
            ("", default),
            ("/delete?id=1", default),
            ("/chart", default),
            ("/chart/00000010", ruled("read", "create*")),
            ("/chart/00000010/x", default),
            ("/find?pid=1", ruled("search", "search")),
            ("/login", ruled("read*", "login*")),
            ("/print", default),
            ("/print/1", ruled("operate*", "create*")),
            ("/print/1/2/3", ruled("operate*", "create*")),
        ],
    );
}

#[test]
fn rules_come_before_the_kind() {
    let table = table(CLINIC);
    let class = |raw: &str| resolve(&table, "GET", raw, |r| r.class.as_str().to_owned());
    assert_eq!(class("/fhir/Coverage"), Ok("administrative".to_owned()));
    assert_eq!(class("/fhir/Coverage/1"), Ok("administrative".to_owned()));
    assert_eq!(class("/fhir/CoverageEligibilityRequest/1"), Ok("clinical".to_owned()));
    // A rule without an action changes the class alone.
    for (method, raw, told) in [
        ("GET", "/fhir/Observation?code=x", "search"),
        ("HEAD", "/fhir/Observation/1", "read"),
        ("POST", "/fhir/Observation/_search", "search"),
        ("POST", "/fhir/Observation", "create*"),
        ("GET", "/fhir/Observation/$lastn", "operate"),
        ("GET", "/fhir/Observation/$purge", "operate*"),
    ] {
        assert_eq!(meaning(&table, method, raw), told, "{method} {raw}");
        let class = resolve(&table, method, raw, |r| r.class.as_str().to_owned());
        assert_eq!(class.as_deref(), Ok("psychiatric"), "{method} {raw}");
    }
    assert_eq!(meaning(&table, "GET", "/fhir/Observation/1/2/3/4"), "route-unknown");
    // No wildcard makes an operation harmless; its name does.
    assert_eq!(meaning(&table, "GET", "/fhir/Coverage/1/$cancel"), "operate*");
    assert_eq!(class("/fhir/Coverage/1/$cancel"), Ok("administrative".to_owned()));
    assert_eq!(meaning(&table, "GET", "/fhir/Coverage/a/b/c"), "read");
    assert_eq!(meaning(&table, "POST", "/fhir/Patient/$match"), "search");
    assert_eq!(meaning(&table, "GET", "/fhir/export/1/zip"), "read");
    assert_eq!(meaning(&table, "POST", "/fhir/export/1/zip"), "route-unknown");
}

#[test]
fn methods_that_no_route_takes() {
    let table = table(CLINIC);
    for method in ["TRACE", "CONNECT", "get", "Get", "GET ", "", "PROPFIND", "QUERY", "M-SEARCH"] {
        assert_eq!(meaning(&table, method, "/fhir/Patient/1"), "method-not-allowed", "{method}");
        assert_eq!(meaning(&table, method, "/nowhere"), "method-not-allowed", "{method}");
    }
}

#[test]
fn c5_prefixes_are_whole_segments_and_case_counts() {
    let table = table(CLINIC);
    let route = |raw: &str| resolve(&table, "GET", raw, |r| r.route.name().as_str().to_owned());
    for (raw, name) in [
        ("/pki/ca/prod", "ca"),
        ("/pki/ca/prod/", "ca"),
        ("/pki/ca/prod/x", "ca"),
        ("/pki/ca/prod/keys", "ca-deep"),
        ("/pki/ca/prod/keys/1?x", "ca-deep"),
        ("/pki/ca/prod/keys2", "ca"),
        ("/pki/ca/prod/Keys", "ca"),
    ] {
        assert_eq!(route(raw).as_deref(), Ok(name), "{raw}");
    }
    for raw in [
        "/",
        "/pki",
        "/pki/ca",
        "/pki/ca/prod2",
        "/pki/ca/pro",
        "/PKI/ca/prod",
        "/pki/ca/PROD",
        "/FHIR/Patient/1",
        "/fhi",
        "/fhirx",
        "/x/fhir",
    ] {
        assert_eq!(route(raw), Err(Refusal::RouteUnknown), "{raw}");
    }
}

#[test]
fn the_root_takes_what_no_other_does() {
    let table = table(&format!("{CLINIC}\n[[route]]\nname='rest'\npath='/'\nservice='s'\nclass='c'\nkind='generic'"));
    let route = |raw: &str| resolve(&table, "GET", raw, |r| r.route.name().as_str().to_owned());
    assert_eq!(route("/").as_deref(), Ok("rest"));
    assert_eq!(route("/FHIR").as_deref(), Ok("rest"));
    assert_eq!(route("/fhir").as_deref(), Ok("fhir"));
}

#[test]
fn an_empty_table_takes_nothing() {
    assert_eq!(meaning(&RouteTable::default(), "GET", "/"), "route-unknown");
}

#[test]
fn the_configuration_is_strict() {
    let route = "[[route]]\nname='r'\npath='/r'\nservice='s'\nclass='c'\nkind='generic'\n";
    assert!(definitions(route).is_ok());
    for (wrong, names) in [
        (format!("{route}strip = true"), "strip"),
        (route.replace("generic", "soap"), "soap"),
        (route.replace("'r'", "'a/b'"), "a/b"),
        (route.replace("class='c'\n", ""), "class"),
        (format!("{route}rules=[{{ methods=['GET'], path='/x', action='peek' }}]"), "peek"),
        (format!("{route}rules=[{{ methods=['GET'], path='/x', action='read', effect='none' }}]"), "none"),
        (format!("{route}rules=[{{ methods=['GET'], path='/x', action='read', efect='read-only' }}]"), "efect"),
    ] {
        let error = definitions(&wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("`{names}`")), "{error}");
    }
}

#[test]
fn every_error_names_route_and_field() {
    let route =
        |more: &str| format!("[[route]]\nname='r'\npath='/r'\nservice='s'\nclass='c'\nkind='generic'\n{more}\n");
    let rule = |rule: &str| route(&format!("rules=[{{ methods=['PUT'], path='/x', action='update' }}, {{ {rule} }}]"));
    for (text, error) in [
        (route("") + &route("").replace("'/r'", "'/q'"), "route `r`, `name`: the name is taken by another route"),
        (
            route("") + &route("").replace("name='r'", "name='q'"),
            "route `q`, `path`: `/r` is already the prefix of route `r`",
        ),
        (
            route("").replace("'/r'", "'/r/'"),
            "route `r`, `path`: `/r/` is not a path in normal form, without query and trailing `/`",
        ),
        (rule("methods=[], path='/x', action='read'"), "route `r`, `rules[1].methods`: at least one method is needed"),
        (
            rule("methods=['TRACE'], path='/x', action='read'"),
            "route `r`, `rules[1].methods`: `TRACE` is not a method that can be routed: \
             GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
        ),
        (
            rule("methods=['GET'], path='/x/**/y', action='read'"),
            "route `r`, `rules[1].path`: `/x/**/y` is not a pattern: a path of segments, each a literal in normal \
             form, `*`, `{patient}` or, last, `**`",
        ),
        (
            rule("methods=['POST'], path='/x', action='create', effect='read-only'"),
            "route `r`, `rules[1].effect`: `read-only` contradicts the action `create`",
        ),
        (
            rule("methods=['DELETE'], path='/x', action='read', effect='read-only'"),
            "route `r`, `rules[1].effect`: `read-only` contradicts the method `DELETE`",
        ),
        (
            rule("methods=['GET'], path='/x', class='c', effect='read-only'"),
            "route `r`, `rules[1].effect`: an effect needs an `action` beside it",
        ),
        (
            rule("methods=['GET'], path='/x'"),
            "route `r`, `rules[1].action`: the rule gives neither `action` nor `class` nor where \
             patients are named",
        ),
        (
            rule("methods=['GET', 'PUT'], path='/x', action='operate'"),
            "route `r`, `rules[1].methods`: rule 0 has the same path and method `PUT`",
        ),
        (
            rule("methods=['GET'], path='/x', action='read', patient_query=['']"),
            "route `r`, `rules[1].patient_query`: a parameter's name cannot be empty",
        ),
        (
            rule("methods=['POST'], path='/x', patient_form=['a', '']"),
            "route `r`, `rules[1].patient_form`: a parameter's name cannot be empty",
        ),
        (
            rule("methods=['POST'], path='/x', patient_request_json=['/a', 'b']"),
            "route `r`, `rules[1].patient_request_json`: `b` is not a JSON pointer: `/` before each name, `~0` and `~1` \
             for `~` and `/` in it, `*` for any; at most 32",
        ),
        (
            rule("methods=['POST'], path='/x', patient_answer_json=['/a~2']"),
            "route `r`, `rules[1].patient_answer_json`: `/a~2` is not a JSON pointer: `/` before each name, `~0` and \
             `~1` for `~` and `/` in it, `*` for any; at most 32",
        ),
        (
            route("read_only_operations=['everything']"),
            "route `r`, `read_only_operations`: only a route of kind `fhir` has operations",
        ),
        (
            route("read_only_operations=['$everything']").replace("generic", "fhir"),
            "route `r`, `read_only_operations`: `$everything` is not the name of an operation: \
             letters, digits, `-`, `_` and `.`, without `$`",
        ),
    ] {
        assert_eq!(RouteTable::new(definitions(&text).unwrap()).unwrap_err().to_string(), error);
    }
    for path in ["", "r", "//", "/r//x", "/r?x", "/./r", "/%72", "/r;x", "*", "/r#"] {
        let text = route("").replace("'/r'", &format!("'{path}'"));
        assert_eq!(RouteTable::new(definitions(&text).unwrap()).unwrap_err().field, "path", "{path}");
    }
}

fn targets() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        Just("fhir"),
        Just("dicom-web"),
        Just("app"),
        Just("Patient"),
        Just("Observation"),
        Just("studies"),
        Just("series"),
        Just("instances"),
        Just("$everything"),
        Just("%24x"),
        Just("_history"),
        Just("_search"),
        Just("1"),
        Just("metadata"),
        Just("workitems"),
        Just("*"),
        Just("%E5%B1%B1"),
        Just("find"),
        Just("chart"),
        Just("frames"),
        Just("Coverage"),
    ];
    (proptest::collection::vec(segment, 0..9), "/?", "(\\?[a-z=&]{0,9})?").prop_map(|(segments, slash, query)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if path.is_empty() { format!("/{query}") } else { format!("{path}{slash}{query}") }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes, there is one answer, and only what cannot change anything is called read-only.
    #[test]
    fn resolving_is_total_and_careful(raw in targets(), method in prop_oneof![
        "[A-Z]{0,8}", "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS",
    ]) {
        let table = table(CLINIC);
        let seen = resolve(&table, &method, &raw, |r| (r.action, r.effect));
        match seen {
            Ok((action, effect)) => {
                prop_assert!(METHODS.contains(&method.as_str()) || method == "HEAD");
                if effect == Effect::ReadOnly {
                    prop_assert!(!matches!(action, Action::Create | Action::Update | Action::Delete));
                    prop_assert!(!matches!(method.as_str(), "PUT" | "PATCH" | "DELETE"));
                }
            },
            Err(refusal) => prop_assert!(matches!(refusal, Refusal::RouteUnknown | Refusal::MethodNotAllowed)),
        }
    }

    /// The prefix that takes a path is the longest one that, as text with a `/` after it, begins the path.
    #[test]
    fn the_longest_prefix_wins(raw in targets()) {
        let table = table(&format!("{CLINIC}\n{}", r#"
            [[route]]
            name = "deep"
            path = "/fhir/Patient"
            service = "s"
            class = "c"
            kind = "generic"
        "#));
        let path = format!("{}/", raw.split('?').next().unwrap().trim_end_matches('/'));
        let longest = table.routes().filter(|route| path.starts_with(&format!("{}/", route.path())))
            .max_by_key(|route| route.path().len()).map(|route| route.name().clone());
        let seen = resolve(&table, "OPTIONS", &raw, |r| r.route.name().clone());
        match seen {
            Ok(name) => prop_assert_eq!(Some(name), longest),
            // A route may know no such path.
            Err(refusal) => prop_assert_eq!(refusal, Refusal::RouteUnknown),
        }
    }
}

#[test]
fn a_deadline_is_a_time_that_can_be_met() {
    let with = |deadline: &str| {
        let text = CLINIC.replacen("kind = \"fhir\"", &format!("kind = \"fhir\"\ndeadline_ms = {deadline}"), 1);
        RouteTable::new(definitions(&text).unwrap())
    };
    let deadline = |table: RouteTable| table.routes().find_map(|route| route.deadline());
    assert_eq!(deadline(with("250").unwrap()), Some(std::time::Duration::from_millis(250)));
    assert_eq!(deadline(table(CLINIC)), None);
    for bad in ["0", "86400001"] {
        let error = with(bad).unwrap_err();
        assert_eq!((error.field.as_str(), error.problem), ("deadline_ms", RouteProblem::Deadline));
    }
}

#[test]
fn opening_a_websocket_is_a_right_of_its_own_whatever_a_get_is() {
    let text = CLINIC.replacen("kind = \"generic\"", "kind = \"generic\"\nwebsocket = {}", 1);
    let table = table(&text);
    let opened = |raw: &str| {
        let target = CanonicalTarget::parse(raw.as_bytes(), 1_024).unwrap();
        table.resolve_websocket(crate::route::Place::default(), &target).map(|resolved| {
            assert_eq!((resolved.action, resolved.effect), (Action::Connect, Effect::Changing), "{raw}");
            let patients: Vec<_> = resolved.path_patients.iter().map(ToString::to_string).collect();
            (resolved.route.websocket().is_some(), resolved.class.to_string(), patients)
        })
    };
    assert_eq!(opened("/app/chart/4711"), Ok((true, "clinical".to_owned(), vec!["4711".to_owned()])));
    assert_eq!(opened("/app/print/x"), Ok((true, "administrative".to_owned(), Vec::new())), "of the class of a GET");
    assert_eq!(opened("/fhir/Nothing/of/the/kind").map(|opened| opened.0), Ok(false), "others let none open");
    assert_eq!(opened("/elsewhere"), Err(Refusal::RouteUnknown));
}

#[test]
fn websockets_do_not_begin_where_passwords_are_read() {
    let with = |websocket: &str| {
        let text = CLINIC.replacen("kind = \"fhir\"", &format!("kind = \"fhir\"\nwebsocket = {websocket}"), 1);
        RouteTable::new(definitions(&text).unwrap()).map(drop).map_err(|error| (error.field, error.problem))
    };
    assert_eq!(with("{}"), Ok(()));
    assert_eq!(
        with("{ idle_timeout_ms = 0 }"),
        Err(("websocket.idle_timeout_ms".to_owned(), RouteProblem::WebsocketIdle))
    );
    let bad = ("websocket.origins[0]".to_owned(), RouteProblem::WebsocketOrigin("*".to_owned()));
    assert_eq!(with("{ origins = [\"*\"] }"), Err(bad));
    let login = "[[route]]\nname = \"login\"\npath = \"/login\"\nservice = \"s\"\nclass = \"clinical\"\nkind = \"generic\"\n\
                 websocket = {}\nlogin = { account = { form = \"user\" }, success = { status = [302] } }\n";
    let error = RouteTable::new(definitions(login).unwrap()).unwrap_err();
    assert_eq!((error.field.as_str(), error.problem), ("websocket", RouteProblem::WebsocketAndLogin));
}
