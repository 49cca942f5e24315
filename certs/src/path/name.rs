//! Distinguished names, compared as RFC 5280 7.1 wants: letters of any case, any run of blanks and any string type.

use super::Malformed;
use super::der::{self, Reader};

const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;

/// The most relative names in a name, and attributes in one of them.
const MAX_PARTS: usize = 64;

/// pkcs-9-at-emailAddress.
const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];

/// A name's parts, each in a form that is equal exactly if the parts mean the same.
pub(crate) type Canonical = Vec<Vec<u8>>;

/// A `Name`, as its DER.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Takes the whole element and checks its shape.
    pub(crate) fn read(whole: &'a [u8]) -> Result<Self, Malformed> {
        let mut rdns = der::only(whole, der::SEQUENCE)?;
        let mut count = 0;
        while !rdns.is_empty() {
            count += 1;
            if count > MAX_PARTS {
                return Err(Malformed("a name has too many parts"));
            }
            check_rdn(rdns.value(der::SET)?)?;
        }
        Ok(Self(whole))
    }

    pub(crate) const fn der(self) -> &'a [u8] {
        self.0
    }

    /// Has it no parts?
    pub(crate) const fn is_empty(self) -> bool {
        // INVARIANT: an empty SEQUENCE is two bytes in DER.
        self.0.len() <= 2
    }

    pub(crate) fn same(self, other: Name<'_>) -> bool {
        self.0 == other.0 || self.canonical() == other.canonical()
    }

    /// Does the name begin with `base`? (RFC 5280 4.2.1.10)
    pub(crate) fn is_within(self, base: Name<'_>) -> bool {
        let (own, base) = (self.canonical(), base.canonical());
        own.get(..base.len()) == Some(&base)
    }

    /// One text for every relative name. Two names are the same exactly if these are.
    pub(crate) fn canonical(self) -> Canonical {
        let mut parts = Vec::new();
        // INVARIANT: the shape was checked when it was read; a part that cannot be read would end the list early.
        let Ok(mut rdns) = der::only(self.0, der::SEQUENCE) else { return parts };
        while let Ok(rdn) = rdns.value(der::SET) {
            parts.push(canonical_rdn(rdn));
        }
        parts
    }

    /// The e-mail addresses among the attributes, which name constraints reach (RFC 5280 4.2.1.10).
    pub(crate) fn emails(self) -> Vec<&'a [u8]> {
        let mut found = Vec::new();
        let Ok(mut rdns) = der::only(self.0, der::SEQUENCE) else { return found };
        while let Ok(mut rdn) = rdns.inside(der::SET) {
            while let Ok((EMAIL_ADDRESS, value)) = attribute(&mut rdn) {
                found.push(value.value);
            }
        }
        found
    }

    /// The one value of an attribute, as text; none if there are two.
    pub(crate) fn attribute(self, wanted: &[u8]) -> Option<String> {
        let mut found = None;
        let mut rdns = der::only(self.0, der::SEQUENCE).ok()?;
        while let Ok(mut rdn) = rdns.inside(der::SET) {
            while let Ok((oid, value)) = attribute(&mut rdn) {
                if oid == wanted {
                    if found.is_some() {
                        return None;
                    }
                    found = Some(decode(value)?);
                }
            }
        }
        found
    }

    /// For messages: values in order, escaped for a terminal.
    pub(crate) fn display(self) -> String {
        let mut text = String::new();
        let Ok(mut rdns) = der::only(self.0, der::SEQUENCE) else { return text };
        while let Ok(mut rdn) = rdns.inside(der::SET) {
            while let Ok((oid, value)) = attribute(&mut rdn) {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                text.push_str(match oid {
                    [0x55, 0x04, 0x03] => "CN=",
                    [0x55, 0x04, 0x05] => "serialNumber=",
                    [0x55, 0x04, 0x06] => "C=",
                    [0x55, 0x04, 0x07] => "L=",
                    [0x55, 0x04, 0x08] => "ST=",
                    [0x55, 0x04, 0x0a] => "O=",
                    [0x55, 0x04, 0x0b] => "OU=",
                    _ => "?=",
                });
                let decoded = decode(value).unwrap_or_else(|| value.value.escape_ascii().to_string());
                text.extend(decoded.chars().take(128).flat_map(char::escape_debug));
            }
        }
        text
    }
}

/// The names of a `GeneralName`'s relativeToCRLIssuer: one relative name below another's.
pub(crate) fn canonical_below(issuer: Name<'_>, relative: &[u8]) -> Result<Canonical, Malformed> {
    check_rdn(relative)?;
    let mut parts = issuer.canonical();
    parts.push(canonical_rdn(relative));
    Ok(parts)
}

fn check_rdn(content: &[u8]) -> Result<(), Malformed> {
    let mut rdn = Reader::new(content);
    let mut count = 0;
    while !rdn.is_empty() {
        count += 1;
        if count > MAX_PARTS {
            return Err(Malformed("a name has too many parts"));
        }
        attribute(&mut rdn)?;
    }
    if count == 0 { Err(Malformed("a relative name is empty")) } else { Ok(()) }
}

fn attribute<'a>(rdn: &mut Reader<'a>) -> Result<(&'a [u8], der::Tlv<'a>), Malformed> {
    let mut attribute = rdn.inside(der::SEQUENCE)?;
    let oid = attribute.oid()?;
    let value = attribute.any()?;
    attribute.end()?;
    Ok((oid, value))
}

fn canonical_rdn(content: &[u8]) -> Vec<u8> {
    let mut rdn = Reader::new(content);
    let mut attributes = Vec::new();
    while let Ok((oid, value)) = attribute(&mut rdn) {
        let mut one = Vec::with_capacity(oid.len() + value.value.len() + 8);
        one.extend_from_slice(&(oid.len() as u64).to_be_bytes());
        one.extend_from_slice(oid);
        match decode(value) {
            Some(text) => {
                one.push(UTF8_STRING);
                fold(&text, &mut one);
            }
            None => {
                one.push(value.tag);
                one.extend_from_slice(value.value);
            }
        }
        attributes.push(one);
    }
    attributes.sort_unstable();
    let mut all = Vec::new();
    for one in attributes {
        all.extend_from_slice(&(one.len() as u64).to_be_bytes());
        all.extend_from_slice(&one);
    }
    all
}

/// The text of a string of a known type.
fn decode(value: der::Tlv<'_>) -> Option<String> {
    match value.tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => {
            std::str::from_utf8(value.value).ok().map(str::to_owned)
        }
        // What is beyond ASCII differs from one maker to the next; such a value equals only its own bytes.
        TELETEX_STRING if value.value.is_ascii() => std::str::from_utf8(value.value).ok().map(str::to_owned),
        BMP_STRING => {
            let (units, []) = value.value.as_chunks::<2>() else { return None };
            char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit))).collect::<Result<_, _>>().ok()
        }
        UNIVERSAL_STRING => {
            let (units, []) = value.value.as_chunks::<4>() else { return None };
            units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect()
        }
        _ => None,
    }
}

/// Small letters, one blank for each run of them, none at the ends.
fn fold(text: &str, into: &mut Vec<u8>) {
    let mut first = true;
    for word in text.split_whitespace() {
        if !first {
            into.push(b' ');
        }
        first = false;
        let mut buffer = [0; 4];
        for letter in word.chars().flat_map(char::to_lowercase) {
            into.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn name(parts: &[(u8, &[u8])]) -> Vec<u8> {
        let rdns: Vec<u8> = parts
            .iter()
            .flat_map(|(tag, text)| {
                let value = [tlv(6, &[0x55, 4, 10]), tlv(*tag, text)].concat();
                tlv(der::SET, &tlv(der::SEQUENCE, &value))
            })
            .collect();
        tlv(der::SEQUENCE, &rdns)
    }

    #[test]
    fn case_blanks_and_types_do_not_matter() {
        let one = name(&[(PRINTABLE_STRING, b" Good  CA ")]);
        for other in [
            name(&[(UTF8_STRING, b"good ca")]),
            name(&[(TELETEX_STRING, b"GOOD CA")]),
            name(&[(BMP_STRING, b"\0g\0o\0o\0d\0 \0c\0a")]),
        ] {
            assert!(Name::read(&one).unwrap().same(Name::read(&other).unwrap()));
        }
        for other in [name(&[(UTF8_STRING, b"goodca")]), name(&[(OCTETS, b"good ca")]), name(&[])] {
            assert!(!Name::read(&one).unwrap().same(Name::read(&other).unwrap()));
        }
    }

    const OCTETS: u8 = der::OCTET_STRING;

    #[test]
    fn a_base_is_a_beginning() {
        let (a, ab) = (name(&[(UTF8_STRING, b"a")]), name(&[(UTF8_STRING, b"A"), (UTF8_STRING, b"b")]));
        let (a, ab) = (Name::read(&a).unwrap(), Name::read(&ab).unwrap());
        assert!(ab.is_within(a) && a.is_within(a) && !a.is_within(ab));
        let japanese = name(&[(UTF8_STRING, "さくら診療所".as_bytes())]);
        assert_eq!(Name::read(&japanese).unwrap().display(), "O=さくら診療所");
        assert!(!Name::read(&japanese).unwrap().is_within(a));
    }

    #[test]
    fn odd_shapes_are_malformed() {
        for bad in [
            tlv(der::SEQUENCE, &tlv(der::SET, &[])),
            tlv(der::SET, &[]),
            tlv(der::SEQUENCE, &tlv(der::SEQUENCE, &[])),
            [name(&[]), vec![0]].concat(),
            tlv(der::SEQUENCE, &tlv(der::SET, &tlv(der::SEQUENCE, &tlv(6, &[0x55])))),
        ] {
            assert!(Name::read(&bad).is_err(), "{bad:02x?}");
        }
    }
}
