//! Syslog messages (RFC 5424) in the frames of RFC 5425.

use gateway_export::Event;

/// Facility 10 (security/authorization), severity 5 (notice), as IHE ITI-20 wants it.
const PRIORITY: &str = "<85>";
/// What IHE ITI-20 calls its messages.
const MESSAGE_ID: &str = "IHE+RFC-3881";
const PROGRAM: &str = "sekisho";
/// Digits of a second's fraction that RFC 5424 allows.
const FRACTION: usize = 6;

/// Appends a message with its length in front.
pub(super) fn frame(event: &Event, message: &str, out: &mut Vec<u8>) {
    let text = format!(
        "{PRIORITY}1 {} {} {PROGRAM} - {MESSAGE_ID} - {message}",
        timestamp(&event.time),
        host(event.node.as_deref())
    );
    out.extend_from_slice(format!("{} ", text.len()).as_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// RFC 3339 with no more digits than RFC 5424 takes.
fn timestamp(time: &str) -> String {
    match time.trim_end_matches('Z').split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{}Z", fraction.get(..FRACTION).unwrap_or(fraction)),
        None => time.to_owned(),
    }
}

/// The gateway's name, if it is printable ASCII of at most 255 characters.
fn host(node: Option<&str>) -> &str {
    let fits = |node: &&str| (1..=255).contains(&node.len()) && node.bytes().all(|byte| byte.is_ascii_graphic());
    node.filter(fits).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use gateway_audit::header::Kind;
    use gateway_export::Place;

    use super::*;

    #[test]
    fn a_message_is_framed_by_its_bytes() {
        let place = Place { origin: "log".to_owned(), sequence: 1 };
        let mut event = Event::sealed(place, Kind::Stop, 1_000_000_009, None, "桜");
        let mut out = Vec::new();
        frame(&event, "桜", &mut out);
        event.node = Some("gw 1".to_owned());
        frame(&event, "x", &mut out);
        event.node = Some("gw1".to_owned());
        frame(&event, "x", &mut out);
        let head = "<85>1 1970-01-01T00:00:01.000000Z";
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "64 {head} - sekisho - IHE+RFC-3881 - 桜62 {head} - sekisho - IHE+RFC-3881 - x64 {head} gw1 sekisho - \
                 IHE+RFC-3881 - x"
            )
        );
    }
}
