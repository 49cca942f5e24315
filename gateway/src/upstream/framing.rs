//! Framing of what goes to a backend and of what comes back (RFC 9112 6): each message has one reading only.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::error::Failure;

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none.
    Empty,
    /// Exactly this many bytes.
    Exact(u64),
    /// It ends when it ends: chunked on HTTP/1.1.
    Unknown,
    /// It is none: bytes of another protocol, once the backend has agreed to it.
    Tunnel,
}

/// How an answer's body is delimited (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerFraming {
    /// By its length.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the connection's end.
    UntilClose,
}

/// The one `Content-Length`: digits only. Lists and repetitions are refused even where the numbers agree, so that
/// nobody behind the gateway has to choose.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("more than one Content-Length");
    }
    let bytes = value.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return Err("Content-Length is not a number");
    }
    let text = value.to_str().map_err(|_| "Content-Length is not a number")?;
    // The largest values are libraries' signs for a body of unknown length.
    match text.parse::<u64>() {
        Ok(length) if length < u64::MAX - 2 => Ok(Some(length)),
        Ok(_) | Err(_) => Err("Content-Length is too large"),
    }
}

/// Writes the framing fields of a request anew from what its body is. `declared` lengths that contradict the body are
/// refused: forwarded, they would make the backend read the next request as a body (C4).
pub(super) fn frame_request(
    headers: &mut HeaderMap,
    method: &Method,
    ended: bool,
    exact: Option<u64>,
    chunked: bool,
) -> Result<Length, Failure> {
    let declared = content_length(headers).map_err(Failure::RequestFraming)?;
    headers.remove(TRANSFER_ENCODING);
    if ended {
        if declared.is_some_and(|length| length != 0) {
            return Err(Failure::RequestFraming("a Content-Length without a body"));
        }
        // RFC 9110 8.6: a method that anticipates content says explicitly that there is none.
        if declared.is_none() && matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        return Ok(Length::Empty);
    }
    match (declared, exact) {
        (Some(declared), Some(exact)) if declared != exact => {
            Err(Failure::RequestFraming("Content-Length is not the body's length"))
        }
        (Some(length), _) => Ok(Length::Exact(length)),
        (None, Some(length)) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            Ok(Length::Exact(length))
        }
        (None, None) => {
            // Whatever the method: a body that is not framed is the next request.
            if chunked {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            Ok(Length::Unknown)
        }
    }
}

/// Refuses an answer whose framing has two readings, and takes framing fields away where there is no body to frame.
///
/// What it returns frames an HTTP/1.1 body, if the answer has one; unknown means that it ends with the connection.
pub(super) fn check_answer(
    status: StatusCode,
    version: Version,
    headers: &mut HeaderMap,
) -> Result<AnswerFraming, Failure> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::UpgradeUnasked);
    }
    if status.is_informational() {
        return Err(Failure::Malformed("an informational answer as the final one".into()));
    }
    let length = content_length(headers).map_err(|text| Failure::Malformed(text.into()))?;
    let mut framing = length.map_or(AnswerFraming::UntilClose, AnswerFraming::Length);
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        framing = AnswerFraming::Chunked;
        if length.is_some() {
            return Err(Failure::Malformed("both Content-Length and Transfer-Encoding".into()));
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Failure::Malformed("a Transfer-Encoding other than chunked".into()));
        }
        if version != Version::HTTP_11 {
            return Err(Failure::Malformed("a Transfer-Encoding outside HTTP/1.1".into()));
        }
    }
    // RFC 9110 8.6: a 204 has neither body nor length.
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    Ok(framing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_request_is_framed_by_what_its_body_is() {
        let post = &Method::POST;
        for (fields, ended, exact, wanted, sent) in [
            (&[][..], true, Some(0), Some(Length::Empty), "content-length: 0"),
            (&[("content-length", "0")], true, Some(0), Some(Length::Empty), "content-length: 0"),
            (&[("content-length", "40")], true, Some(0), None, ""),
            (&[("content-length", "40")], false, Some(41), None, ""),
            (&[("content-length", "+5")], false, Some(5), None, ""),
            (&[("content-length", "0x5")], false, None, None, ""),
            (&[("content-length", "")], false, None, None, ""),
            (&[("content-length", "5, 5")], false, Some(5), None, ""),
            (&[("content-length", "5"), ("content-length", "5")], false, Some(5), None, ""),
            (&[("content-length", "18446744073709551615")], false, None, None, ""),
            (&[("content-length", "18446744073709551616")], false, None, None, ""),
            (&[("content-length", "5")], false, None, Some(Length::Exact(5)), "content-length: 5"),
            (&[], false, Some(7), Some(Length::Exact(7)), "content-length: 7"),
            (&[], false, None, Some(Length::Unknown), "transfer-encoding: chunked"),
            (&[("transfer-encoding", "gzip")], false, None, Some(Length::Unknown), "transfer-encoding: chunked"),
        ] {
            let mut headers = map(fields);
            let length = frame_request(&mut headers, post, ended, exact, true).ok();
            assert_eq!(length, wanted, "{fields:?}");
            if wanted.is_some() {
                let text: Vec<String> =
                    headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
                assert_eq!(text, [sent], "{fields:?}");
            }
        }
    }

    #[test]
    fn a_get_with_a_body_of_unknown_length_keeps_it_and_an_empty_one_gets_no_field() {
        let mut headers = HeaderMap::new();
        frame_request(&mut headers, &Method::GET, false, None, true).unwrap();
        assert_eq!(headers[TRANSFER_ENCODING], "chunked");
        let mut headers = HeaderMap::new();
        frame_request(&mut headers, &Method::GET, true, Some(0), true).unwrap();
        assert!(headers.is_empty());
    }

    #[test]
    fn an_answer_with_two_readings_is_refused() {
        let te = "transfer-encoding";
        let cl = "content-length";
        for (fields, good) in [
            (&[][..], true),
            (&[(cl, "5")], true),
            (&[(te, "chunked")], true),
            (&[(te, "Chunked")], true),
            (&[(cl, "5"), (te, "chunked")], false),
            (&[(te, "chunked"), (cl, "5")], false),
            (&[(te, "gzip, chunked")], false),
            (&[(te, "identity")], false),
            (&[(te, "chunked"), (te, "chunked")], false),
            (&[(cl, "5"), (cl, "6")], false),
            (&[(cl, "5"), (cl, "5")], false),
            (&[(cl, "5,5")], false),
            (&[(cl, "-1")], false),
        ] {
            let mut headers = map(fields);
            assert_eq!(check_answer(StatusCode::OK, Version::HTTP_11, &mut headers).is_ok(), good, "{fields:?}");
        }
        assert!(check_answer(StatusCode::OK, Version::HTTP_10, &mut map(&[(te, "chunked")])).is_err());
        let unasked = check_answer(StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11, &mut HeaderMap::new());
        assert!(matches!(unasked, Err(Failure::UpgradeUnasked)));
    }
}
