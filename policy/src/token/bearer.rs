//! Where a request carries its token: `Authorization: Bearer` (RFC 6750 2.1), and nowhere else.

use crate::Refusal;

/// Takes the token out of the values of `Authorization`; none where there is none, or a password (`Basic`, RFC 7617).
///
/// # Errors
/// [`Refusal::RequestAmbiguous`] for several values; [`Refusal::TokenInvalid`] where it is not the `b64token` of RFC 6750, and
/// for whatever a backend may take for a token and this does not: other schemes, other blanks, two credentials in one value.
pub fn bearer<'a>(values: &[&'a [u8]]) -> Result<Option<&'a str>, Refusal> {
    let value = match values {
        [] => return Ok(None),
        [one] => one,
        _ => return Err(Refusal::RequestAmbiguous),
    };
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if scheme.eq_ignore_ascii_case(b"basic") && !rest.iter().any(|byte| matches!(byte, b',' | b'\t')) {
        return Ok(None);
    }
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Refusal::TokenInvalid);
    }
    let token = rest.trim_ascii();
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let (text, _) = token.split_at(token.len() - padding);
    if text.is_empty() || token.len() > super::MAX_TOKEN_BYTES || !text.iter().all(alphabet) {
        return Err(Refusal::TokenInvalid);
    }
    std::str::from_utf8(token).map(Some).map_err(|_| Refusal::TokenInvalid)
}

/// Whether a query carries a token (RFC 6750 2.3), which would then stand in logs: such a request is refused.
#[must_use]
pub fn is_in_query(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        decoded(name).eq_ignore_ascii_case(b"access_token")
    })
}

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(byte));
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_one_header_alone() {
        assert_eq!(bearer(&[]), Ok(None));
        assert_eq!(bearer(&[b"Basic YTpi"]), Ok(None));
        assert_eq!(bearer(&[b"Bearer abc.d-e_f.~+/=="]), Ok(Some("abc.d-e_f.~+/==")));
        assert_eq!(bearer(&[b"bEARER  x"]), Ok(Some("x")));
        assert_eq!(bearer(&[b"Bearer x", b"Basic y"]), Err(Refusal::RequestAmbiguous));
        for bad in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearer a b",
            b"Bearer a,b",
            b"Bearer =",
            b"Bearer \xe9",
            b"Bearer a=b",
            b"Bearer\tx",
            b"Basic a, Bearer b",
            b"Basic\ta",
            b" Bearer x",
            b"Token x",
            b"",
        ] {
            assert_eq!(bearer(&[bad]), Err(Refusal::TokenInvalid), "{bad:?}");
        }
        let long = [&b"Bearer "[..], &vec![b'a'; super::super::MAX_TOKEN_BYTES + 1]].concat();
        assert_eq!(bearer(&[&long]), Err(Refusal::TokenInvalid));
    }

    #[test]
    fn a_token_in_a_query_is_found_however_it_is_written() {
        for query in ["access_token=x", "a=1&access_token", "ACCESS_TOKEN=", "acc%65ss%5Ftoken=x", "a;access_token=x"] {
            assert!(is_in_query(query), "{query}");
        }
        for query in ["", "a=access_token", "access_tokens=x", "access%", "access_toke%6"] {
            assert!(!is_in_query(query), "{query}");
        }
    }
}
