//! Items and sub-items of A-ASSOCIATE PDUs: a type, a reserved byte, a length of 16 bits (PS3.8 section 9.3).

use super::fault::Fault;

/// An item's type and value.
pub(crate) type Item<'b> = (u8, &'b [u8]);

/// Takes bytes apart into items; they must be used up.
pub(crate) fn items(mut bytes: &[u8]) -> impl Iterator<Item = Result<Item<'_>, Fault>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let item = split(bytes);
        match item {
            Some((item, rest)) => {
                bytes = rest;
                Some(Ok(item))
            }
            None => {
                bytes = &[];
                Some(Err(Fault::MalformedPdu))
            }
        }
    })
}

fn split(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let ([kind, _, a, b], rest) = bytes.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes([*a, *b]).into())?;
    Some(((*kind, value), rest))
}

/// Takes a field of a length of 16 bits off the front.
pub(crate) fn field<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    *bytes = rest;
    Some(value)
}

/// Writes an item. What is written was read before, or is short, so that its length fits.
pub(crate) fn put_item(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

/// Stores what may come once.
pub(crate) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::MalformedPdu),
    }
}
