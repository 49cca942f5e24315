//! Listeners that carry no HTTP.

use super::*;

/// The minimal file with a listener of kind `tcp` beside it.
fn with(stream: &str, service: &str, more: &str) -> String {
    format!(
        "{MINIMAL}\n[[listener]]\nname = \"other\"\nkind = \"tcp\"\naddress = \"127.0.0.1:2762\"\n\
         server_names = [\"localhost\"]\n{more}\ntls = {{ certificate_file = \"a\", key_file = \"b\", client_ca_file = \"c\" }}\n\
         {stream}\n[[service]]\nname = \"archive\"\n{service}\n"
    )
}

const STREAM: &str = "[[listener.stream]]\nroute = \"other\"\nservice = \"archive\"\nclass = \"clinical\"\n";
const SERVICE: &str = "backends = [\"tcp://127.0.0.1:104\"]";

#[test]
fn a_stream_says_what_is_spoken_and_where_it_goes() {
    let config = parse(&with(STREAM, SERVICE, "")).unwrap();
    let listener = config.listeners.iter().find(|listener| listener.name == "other").unwrap();
    assert!(listener.is_tcp() && !config.listeners[0].is_tcp());
    let stream = listener.stream(2762).unwrap();
    assert_eq!((&stream.protocol, stream.port), (&StreamProtocol::Raw, None));
    assert_eq!(config.listeners[0].stream(443), None);
    let dicom = format!("{STREAM}protocol = \"dicom\"\ncalled_titles = [\"PACS\"]");
    assert!(parse(&with(&dicom, SERVICE, "")).is_ok());
    assert!(parse(&with(STREAM, "backends = [\"tls://pacs:2762\"]\ntls = { ca_file = \"x\" }", "")).is_ok());
}

#[test]
fn what_does_not_fit_together_is_told() {
    for (stream, service, more, why) in [
        ("", SERVICE, "", "`listener[1].stream` is missing"),
        (&*format!("{STREAM}{STREAM}"), SERVICE, "", "one port carries one"),
        (&format!("{STREAM}protocol = \"dicom\""), SERVICE, "", "must list 1 to 256 AE titles"),
        (&format!("{STREAM}protocol = \"dicom\"\ncalled_titles = [\"A\\\\B\"]"), SERVICE, "", "must be an AE title"),
        (&format!("{STREAM}called_titles = [\"PACS\"]"), SERVICE, "", "is not `dicom`"),
        (&format!("{STREAM}other_separators = true"), SERVICE, "", "is not `hl7`"),
        (&format!("{STREAM}port = 104"), SERVICE, "", "is for tunnels"),
        (&STREAM.replace("\"archive\"", "\"fhir\""), SERVICE, "", "none of `tcp://` or `tls://`"),
        (&STREAM.replace("\"archive\"", "\"nowhere\""), SERVICE, "", "no service has that name"),
        (&STREAM.replace("\"other\"", "\"fhir\""), SERVICE, "", "another route has that name"),
        (STREAM, "backends = [\"tls://pacs:2762\"]", "", "`tls`, so the authorities"),
        (STREAM, &format!("{SERVICE}\nhttp2 = true"), "", "speak no HTTP"),
        (
            STREAM,
            &format!("{SERVICE}\nhealth = {{ kind = \"http\" }}"),
            "",
            "must be `tcp`: the backends speak no HTTP",
        ),
        (STREAM, SERVICE, "login_page = true", "there are no pages"),
    ] {
        let found = problems(&with(stream, service, more));
        assert!(found.iter().any(|problem| problem.contains(why)), "{why}: {found:?}");
    }
}
