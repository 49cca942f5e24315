//! From media types (RFC 9110 section 8.3) to how a body is read.

use super::super::PatientSource;
use super::{Plan, Unread};
use crate::route::RouteKind;

/// How a body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    Json,
    Form,
    /// A DICOM file.
    Part10,
    /// Parts of images and metadata, between these boundaries.
    Multipart(Vec<u8>),
    /// There is nothing to read in it, or nobody asked.
    Nothing,
}

/// How the body of an exchange is read.
pub(super) fn reading(plan: &Plan, content_type: Option<&[u8]>, source: PatientSource) -> Result<Reading, Unread> {
    let Some(content_type) = content_type else { return Err(Unread::ContentType) };
    let essence = essence(content_type);
    let is = |name: &[u8]| essence.eq_ignore_ascii_case(name);
    let json = is_json(essence);
    let form = is(b"application/x-www-form-urlencoded");
    match plan.kind {
        RouteKind::Fhir if json => Ok(Reading::Json),
        RouteKind::Fhir if form && source == PatientSource::Body => Ok(Reading::Form),
        RouteKind::Dicomweb if json => Ok(Reading::Json),
        RouteKind::Dicomweb if is(b"application/dicom") => Ok(Reading::Part10),
        RouteKind::Dicomweb if is(b"multipart/related") => {
            boundary(content_type).map(Reading::Multipart).ok_or(Unread::Malformed)
        }
        RouteKind::Dicomweb if form && source == PatientSource::Body => Ok(Reading::Form),
        // Renderings, frames and bulk data are the study's that was asked for.
        RouteKind::Dicomweb if is_image(essence) && plan.study.is_some() => Ok(Reading::Nothing),
        RouteKind::Generic => {
            let rules = plan.rules.as_deref();
            let (fields, pointers) = match (rules, source) {
                (Some(rules), PatientSource::Answer) => (false, !rules.answer.is_empty()),
                (Some(rules), _) => (!rules.form.is_empty(), !rules.request.is_empty()),
                (None, _) => (false, false),
            };
            match (fields, pointers) {
                (false, false) => Ok(Reading::Nothing),
                (true, _) if form => Ok(Reading::Form),
                (_, true) if json => Ok(Reading::Json),
                _ => Err(Unread::ContentType),
            }
        }
        RouteKind::Fhir | RouteKind::Dicomweb => Err(Unread::ContentType),
    }
}

/// How a part is read, by its fields.
pub(super) fn part(head: &[u8]) -> Result<Reading, Unread> {
    let fields = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        Some((halves.next()?.trim_ascii(), halves.next()?.trim_ascii()))
    });
    let mut content_types = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
    let Some((_, content_type)) = content_types.next() else { return Err(Unread::ContentType) };
    if content_types.next().is_some() {
        // Another reader may take the other.
        return Err(Unread::Malformed);
    }
    let essence = essence(content_type);
    if essence.eq_ignore_ascii_case(b"application/dicom") {
        Ok(Reading::Part10)
    } else if is_json(essence) {
        Ok(Reading::Json)
    } else if is_image(essence) {
        Ok(Reading::Nothing)
    } else {
        Err(Unread::ContentType)
    }
}

/// Type and subtype, without parameters.
fn essence(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

fn is_json(essence: &[u8]) -> bool {
    let ends_in = |suffix: &[u8]| {
        essence
            .len()
            .checked_sub(suffix.len())
            .and_then(|at| essence.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    ends_in(b"/json") || ends_in(b"+json") || ends_in(b"/ndjson") || ends_in(b"+ndjson") || ends_in(b"/x-ndjson")
}

/// Pixels and other bulk data: nothing in them is an identifier that could be read.
fn is_image(essence: &[u8]) -> bool {
    let begins_with =
        |prefix: &[u8]| essence.get(..prefix.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix));
    begins_with(b"image/") || begins_with(b"video/") || essence.eq_ignore_ascii_case(b"application/octet-stream")
}

/// The parameter `boundary` (RFC 2046 section 5.1.1), in quotes or without.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let mut rest = content_type;
    loop {
        let at = rest.iter().position(|byte| *byte == b';')?;
        rest = rest.get(at + 1..)?.trim_ascii_start();
        let name = rest.iter().position(|byte| matches!(byte, b'=' | b';'))?;
        let (parameter, after) = rest.split_at_checked(name)?;
        let Some(value) = after.strip_prefix(b"=") else {
            rest = after;
            continue;
        };
        let (value, after) = parameter_value(value.trim_ascii_start());
        if parameter.trim_ascii_end().eq_ignore_ascii_case(b"boundary") {
            return Some(value);
        }
        rest = after;
    }
}

/// A token, or a quoted string without its quotes; and what follows.
fn parameter_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
        let (token, after) = text.split_at_checked(end).unwrap_or((text, &[]));
        return (token.trim_ascii_end().to_vec(), after);
    };
    let mut value = Vec::new();
    let mut rest = quoted;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'"' => break,
            b'\\' => {
                if let [escaped, tail @ ..] = rest {
                    value.push(*escaped);
                    rest = tail;
                }
            }
            _ => value.push(*byte),
        }
    }
    (value, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        for (text, expected) in [
            ("multipart/related; boundary=abc", Some("abc")),
            ("multipart/related;type=\"application/dicom\";boundary=\"a b;c\"", Some("a b;c")),
            ("multipart/related; type=\"a;boundary=x\"; BOUNDARY = y ; z", Some("y")),
            ("multipart/related; x; boundary=\"q\\\"r\"", Some("q\"r")),
            ("multipart/related", None),
            ("multipart/related; boundary", None),
        ] {
            assert_eq!(boundary(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn json_types() {
        for (text, expected) in [
            ("application/fhir+json; charset=utf-8", true),
            ("application/JSON", true),
            ("application/json-patch+json", true),
            ("application/fhir+ndjson", true),
            ("application/fhir+xml", false),
            ("text/html", false),
            ("json", false),
        ] {
            assert_eq!(is_json(essence(text.as_bytes())), expected, "{text}");
        }
    }
}
