//! What both sides of HTTP/1.1 write alike: field lines, chunk sizes and the last chunk (RFC 9112 5 and 7.1).

use std::io::Write as _;

use bytes::{BufMut, BytesMut};
use http::HeaderMap;

/// Writes each field as a line of its own.
pub(crate) fn put_fields(out: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the line that announces a chunk of so many bytes, at least one.
pub(crate) fn put_chunk_size(out: &mut BytesMut, bytes: usize) {
    // Writing to a buffer in memory does not fail.
    let _ = write!(out.writer(), "{bytes:x}\r\n");
}

/// Ends a chunked body, with its trailers.
pub(crate) fn put_last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        put_fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal() {
        for (bytes, wanted) in [(9, "9\r\n"), (10, "a\r\n"), (255, "ff\r\n"), (4096, "1000\r\n")] {
            let mut out = BytesMut::new();
            put_chunk_size(&mut out, bytes);
            assert_eq!(out, wanted);
        }
        let mut out = BytesMut::new();
        put_chunk_size(&mut out, usize::MAX);
        assert_eq!(out, "ffffffffffffffff\r\n");
    }
}
