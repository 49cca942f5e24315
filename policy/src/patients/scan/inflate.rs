//! Compressed bodies (RFC 9110 section 8.4.1): `gzip` and `deflate`, within the bound of what is read. How much of a broken
//! one is read before its break depends on the pieces it comes in; that it is broken is said in any case.

use std::io::{self, Write as _};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::Unread;

/// Bytes that are decompressed at once, before what they became is counted.
const STEP: usize = 4 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Inflate {
    decoder: Decoder,
    /// Decompressed bytes that may yet come: pixels that are passed over count as well, since making them costs.
    left: u64,
    over: bool,
}

#[derive(Debug)]
enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Inflate {
    /// A decoder for this coding; none for another, and none for several.
    pub(super) fn of(coding: &[u8], max_bytes: u64) -> Option<Box<Self>> {
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        let decoder = if is(b"gzip") || is(b"x-gzip") {
            Decoder::Gzip(MultiGzDecoder::new(Vec::new()))
        } else if is(b"deflate") {
            Decoder::Deflate(ZlibDecoder::new(Vec::new()))
        } else {
            return None;
        };
        Some(Box::new(Self { decoder, left: max_bytes, over: false }))
    }

    /// Decompresses the next piece.
    ///
    /// # Errors
    /// [`Unread::Malformed`] or [`Unread::TooLong`]; nothing more is decompressed then.
    pub(super) fn feed(&mut self, bytes: &[u8], mut read: impl FnMut(&[u8])) -> Result<(), Unread> {
        for piece in bytes.chunks(STEP) {
            let mut rest = piece;
            while !rest.is_empty() && !self.over {
                let taken = match &mut self.decoder {
                    Decoder::Gzip(decoder) => decoder.write(rest),
                    Decoder::Deflate(decoder) => decoder.write(rest),
                };
                self.hand_over(&mut read)?;
                match taken {
                    Ok(taken @ 1..) => rest = rest.get(taken..).unwrap_or_default(),
                    // Behind the end.
                    Ok(0) => self.over = true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return self.fail(Unread::Malformed),
                }
            }
        }
        Ok(())
    }

    /// The body is over, at its end or before.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub(super) fn finish(&mut self, whole: bool, mut read: impl FnMut(&[u8])) -> Result<(), Unread> {
        if self.over {
            return Ok(());
        }
        let finished = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Deflate(decoder) => decoder.try_finish(),
        };
        self.hand_over(&mut read)?;
        if whole && finished.is_err() { self.fail(Unread::Malformed) } else { Ok(()) }
    }

    fn hand_over(&mut self, read: &mut impl FnMut(&[u8])) -> Result<(), Unread> {
        let plain = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
        };
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX);
        let taken = plain.get(..fits).unwrap_or(plain);
        let is_cut = taken.len() < plain.len();
        self.left = self.left.saturating_sub(taken.len() as u64);
        read(taken);
        plain.clear();
        if is_cut { self.fail(Unread::TooLong) } else { Ok(()) }
    }

    fn fail(&mut self, reason: Unread) -> Result<(), Unread> {
        self.over = true;
        Err(reason)
    }
}
