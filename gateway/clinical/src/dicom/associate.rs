//! A-ASSOCIATE-RQ and -AC (PS3.8 section 9.3, PS3.7 annex D): read in one way or not at all, and written anew, so that the acceptor
//! sees what was judged. Items of unknown types are skipped, as the standard says, and so are not forwarded.

use std::collections::BTreeMap;
use std::fmt;

use super::fault::Fault;
use super::items::{field, items, once, put_item};
use super::names::{AeTitle, Uid};
use super::pdu::{ASSOCIATE_AC, ASSOCIATE_RQ};
use super::syntax::encoding;
use crate::outbox::Outbox;

const APPLICATION: &str = "1.2.840.10008.3.1.1.1";
/// Most presentation contexts: ids are odd bytes.
const MAX_CONTEXTS: usize = 128;
/// The least bound on PDUs that a peer may name; 0 is no bound.
const MIN_PDU: u32 = 1024;

/// A presentation context that the requestor proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedContext {
    /// Its id: odd.
    pub id: u8,
    /// The SOP class, or meta SOP class.
    pub abstract_syntax: Uid,
    /// Its transfer syntaxes that are read; where there is none, the context is refused without being asked for.
    pub transfer_syntaxes: Vec<Uid>,
    /// One that was proposed, for the answer where the context is refused.
    pub(crate) first_syntax: Uid,
}

/// Who the requestor says the user is (PS3.7 section D.3.3.7). Nothing here was proved; passcodes and tokens are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// 1: a name; 2: name and passcode; 3: Kerberos; 4: SAML; 5: JSON Web Token.
    pub kind: u8,
    /// The name, for kinds 1 and 2, where it is UTF-8 of at most 256 bytes.
    pub name: Option<String>,
    raw: Vec<u8>,
}

impl fmt::Debug for UserIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserIdentity").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Sub-items that are passed on for a class or as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UserInformation {
    max_pdu: Option<u32>,
    implementation: Option<Uid>,
    version: Option<Vec<u8>>,
    /// Type, class, whole value: roles and extended negotiation.
    by_class: Vec<(u8, Uid, Vec<u8>)>,
    identity: Option<UserIdentity>,
    /// The acceptor's answer to the identity.
    identity_answer: Option<Vec<u8>>,
}

/// An A-ASSOCIATE-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) calling: AeTitle,
    pub(crate) called: AeTitle,
    /// The two titles' fields, which the answer repeats.
    titles: [u8; 32],
    pub(crate) contexts: Vec<ProposedContext>,
    pub(crate) information: UserInformation,
}

/// Why a request is no request that can be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It cannot be read.
    Fault(Fault),
    /// It is answered by an A-ASSOCIATE-RJ with this source and reason.
    Rejected(u8, u8),
}

impl From<Fault> for Unfit {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Request {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Unfit> {
        let (titles, variable, version) = head(body)?;
        if version & 1 == 0 {
            return Err(Unfit::Rejected(2, 2));
        }
        let (called, calling) = titles.split_at_checked(16).ok_or(Fault::MalformedPdu)?;
        let (mut application, mut information, mut contexts) = (None, None, Vec::<ProposedContext>::new());
        for item in items(variable) {
            match item? {
                (0x10, value) => once(&mut application, Uid::read(value).ok_or(Fault::MalformedPdu)?)?,
                (0x20, value) => {
                    let context = proposed(value)?;
                    if contexts.len() == MAX_CONTEXTS || contexts.iter().any(|known| known.id == context.id) {
                        return Err(Fault::MalformedPdu.into());
                    }
                    contexts.push(context);
                }
                (0x50, value) => once(&mut information, UserInformation::read(value)?)?,
                _ => {}
            }
        }
        if application.ok_or(Fault::MalformedPdu)?.as_str() != APPLICATION {
            return Err(Unfit::Rejected(1, 2));
        }
        let (Some(information), false) = (information, contexts.is_empty()) else {
            return Err(Fault::MalformedPdu.into());
        };
        if information.identity_answer.is_some() {
            return Err(Fault::MalformedPdu.into());
        }
        let calling = AeTitle::read(calling).ok_or(Unfit::Rejected(1, 3))?;
        let called = AeTitle::read(called).ok_or(Unfit::Rejected(1, 7))?;
        if matches!(information.max_pdu, Some(1..MIN_PDU)) {
            return Err(Unfit::Rejected(3, 2));
        }
        Ok(Self { calling, called, titles: *titles, contexts, information })
    }

    /// Most bytes of a PDU that the requestor takes; 0 is no bound.
    pub(crate) fn max_pdu(&self) -> u32 {
        self.information.max_pdu.unwrap_or(0)
    }

    pub(crate) fn identity(&self) -> Option<&UserIdentity> {
        self.information.identity.as_ref()
    }

    pub(crate) fn implementation(&self) -> Option<&Uid> {
        self.information.implementation.as_ref()
    }

    /// Leaves out the contexts that `keep` refuses, with what belongs to their classes, and the identity where it is not wanted.
    pub(crate) fn narrowed(&self, keep: impl Fn(&ProposedContext) -> bool, identity: bool) -> Self {
        let mut narrowed = self.clone();
        narrowed.contexts.retain(|context| !context.transfer_syntaxes.is_empty() && keep(context));
        let classes: Vec<&Uid> = narrowed.contexts.iter().map(|context| &context.abstract_syntax).collect();
        narrowed.information.by_class.retain(|(_, class, _)| classes.contains(&class));
        if !identity {
            narrowed.information.identity = None;
        }
        narrowed
    }

    pub(crate) fn write(&self, out: &mut Outbox) {
        let mut titles = [b' '; 32];
        let (called, calling) = titles.split_at_mut(16);
        for (place, title) in [(called, &self.called), (calling, &self.calling)] {
            place.iter_mut().zip(title.as_str().bytes()).for_each(|(place, byte)| *place = byte);
        }
        let mut body = start(&titles);
        for context in &self.contexts {
            let mut value = vec![context.id, 0, 0, 0];
            put_item(&mut value, 0x30, context.abstract_syntax.as_str().as_bytes());
            for syntax in &context.transfer_syntaxes {
                put_item(&mut value, 0x40, syntax.as_str().as_bytes());
            }
            put_item(&mut body, 0x20, &value);
        }
        put_item(&mut body, 0x50, &self.information.write());
        put(out, ASSOCIATE_RQ, &body);
    }
}

/// An A-ASSOCIATE-AC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Result and, where it is 0, the transfer syntax, by the context's id.
    pub(crate) results: BTreeMap<u8, (u8, Option<Uid>)>,
    information: UserInformation,
}

impl Answer {
    /// Reads the answer to `asked`, which it must fit: a result for each context and for no other, a syntax that was proposed.
    pub(crate) fn read(body: &[u8], asked: &Request) -> Result<Self, Fault> {
        let (_, variable, version) = head(body)?;
        if version & 1 == 0 {
            return Err(Fault::Answer);
        }
        let (mut application, mut information, mut results) = (None, None, BTreeMap::new());
        for item in items(variable) {
            match item? {
                (0x10, value) => once(&mut application, Uid::read(value).ok_or(Fault::MalformedPdu)?)?,
                (0x21, value) => {
                    let (id, result) = result(value, asked)?;
                    if results.insert(id, result).is_some() {
                        return Err(Fault::MalformedPdu);
                    }
                }
                (0x50, value) => once(&mut information, UserInformation::read(value)?)?,
                _ => {}
            }
        }
        let mut information: UserInformation = information.ok_or(Fault::MalformedPdu)?;
        let whole = results.len() == asked.contexts.len() && information.identity.is_none();
        if !whole || matches!(information.max_pdu, Some(1..MIN_PDU)) {
            return Err(Fault::Answer);
        }
        let proposed = &asked.information.by_class;
        information.by_class.retain(|(kind, class, _)| proposed.iter().any(|(k, c, _)| k == kind && c == class));
        if asked.information.identity.is_none() {
            information.identity_answer = None;
        }
        Ok(Self { results, information })
    }

    pub(crate) fn max_pdu(&self) -> u32 {
        self.information.max_pdu.unwrap_or(0)
    }

    /// Writes it for `original`, of which some contexts may have been refused before: those are user rejections, or of unknown
    /// transfer syntax.
    pub(crate) fn write(&self, original: &Request, out: &mut Outbox) {
        let mut body = start(&original.titles);
        for context in &original.contexts {
            let unread = if context.transfer_syntaxes.is_empty() { 4 } else { 1 };
            let (result, syntax) = self.results.get(&context.id).map_or((unread, None), |(r, s)| (*r, s.as_ref()));
            let mut value = vec![context.id, 0, result, 0];
            put_item(&mut value, 0x40, syntax.unwrap_or(&context.first_syntax).as_str().as_bytes());
            put_item(&mut body, 0x21, &value);
        }
        put_item(&mut body, 0x50, &self.information.write());
        put(out, ASSOCIATE_AC, &body);
    }
}

impl UserInformation {
    fn read(value: &[u8]) -> Result<Self, Fault> {
        let mut known = Self::default();
        for item in items(value) {
            let (kind, value) = item?;
            known.item(kind, value)?.ok_or(Fault::MalformedPdu)?;
        }
        Ok(known)
    }

    /// None where it cannot be read.
    fn item(&mut self, kind: u8, value: &[u8]) -> Result<Option<()>, Fault> {
        match kind {
            0x51 => {
                let Ok(most) = value.try_into() else { return Ok(None) };
                once(&mut self.max_pdu, u32::from_be_bytes(most))?;
            }
            0x52 => {
                let Some(uid) = Uid::read(value) else { return Ok(None) };
                once(&mut self.implementation, uid)?;
            }
            // Left out, so that one operation is under way at a time (PS3.7 section D.3.3.3).
            0x53 => {}
            0x54 | 0x56 | 0x57 => {
                let mut rest = value;
                let Some(class) = field(&mut rest).and_then(Uid::read) else { return Ok(None) };
                let role = kind == 0x54;
                let twice = self.by_class.iter().any(|(k, c, _)| *k == kind && *c == class);
                if twice || (role && !matches!(rest, [0 | 1, 0 | 1])) {
                    return Ok(None);
                }
                self.by_class.push((kind, class, value.to_vec()));
            }
            0x55 => {
                if !(1..=16).contains(&value.len()) {
                    return Ok(None);
                }
                once(&mut self.version, value.to_vec())?;
            }
            0x58 => {
                let Some(identity) = UserIdentity::read(value) else { return Ok(None) };
                once(&mut self.identity, identity)?;
            }
            0x59 => {
                let mut rest = value;
                if field(&mut rest).is_none() || !rest.is_empty() {
                    return Ok(None);
                }
                once(&mut self.identity_answer, value.to_vec())?;
            }
            _ => {}
        }
        Ok(Some(()))
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(most) = self.max_pdu {
            put_item(&mut out, 0x51, &most.to_be_bytes());
        }
        if let Some(uid) = &self.implementation {
            put_item(&mut out, 0x52, uid.as_str().as_bytes());
        }
        for (kind, _, value) in self.by_class.iter().filter(|(kind, ..)| *kind == 0x54) {
            put_item(&mut out, *kind, value);
        }
        if let Some(version) = &self.version {
            put_item(&mut out, 0x55, version);
        }
        for (kind, _, value) in self.by_class.iter().filter(|(kind, ..)| *kind != 0x54) {
            put_item(&mut out, *kind, value);
        }
        if let Some(identity) = &self.identity {
            put_item(&mut out, 0x58, &identity.raw);
        }
        if let Some(answer) = &self.identity_answer {
            put_item(&mut out, 0x59, answer);
        }
        out
    }
}

impl UserIdentity {
    fn read(value: &[u8]) -> Option<Self> {
        let [kind, _answer, rest @ ..] = value else { return None };
        let mut rest = rest;
        let primary = field(&mut rest)?;
        let secondary = field(&mut rest)?;
        let sound = rest.is_empty() && (1..=5).contains(kind) && (*kind == 2 || secondary.is_empty());
        let name = if *kind <= 2 { std::str::from_utf8(primary).ok().filter(|name| name.len() <= 256) } else { None };
        sound.then(|| Self { kind: *kind, name: name.map(str::to_owned), raw: value.to_vec() })
    }
}

/// Titles, variable items and version.
fn head(body: &[u8]) -> Result<(&[u8; 32], &[u8], u16), Fault> {
    let (start, variable) = body.split_first_chunk::<68>().ok_or(Fault::MalformedPdu)?;
    let ([v0, v1, _, _], rest) = start.split_first_chunk::<4>().ok_or(Fault::MalformedPdu)?;
    let (titles, _) = rest.split_first_chunk::<32>().ok_or(Fault::MalformedPdu)?;
    Ok((titles, variable, u16::from_be_bytes([*v0, *v1])))
}

fn start(titles: &[u8; 32]) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend_from_slice(titles);
    body.extend_from_slice(&[0; 32]);
    put_item(&mut body, 0x10, APPLICATION.as_bytes());
    body
}

fn put(out: &mut Outbox, kind: u8, body: &[u8]) {
    out.push(&[kind, 0]);
    out.push(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.push(body);
}

fn proposed(value: &[u8]) -> Result<ProposedContext, Fault> {
    let [id, _, _, _, rest @ ..] = value else { return Err(Fault::MalformedPdu) };
    let (mut class, mut first, mut syntaxes) = (None, None, Vec::new());
    for item in items(rest) {
        let (kind, value) = item?;
        let uid = Uid::read(value).ok_or(Fault::MalformedPdu)?;
        match kind {
            0x30 => once(&mut class, uid)?,
            0x40 => {
                first.get_or_insert_with(|| uid.clone());
                if encoding(&uid).is_some() && !syntaxes.contains(&uid) {
                    syntaxes.push(uid);
                }
            }
            _ => return Err(Fault::MalformedPdu),
        }
    }
    match (class, first) {
        (Some(abstract_syntax), Some(first_syntax)) if id % 2 == 1 => {
            Ok(ProposedContext { id: *id, abstract_syntax, transfer_syntaxes: syntaxes, first_syntax })
        }
        _ => Err(Fault::MalformedPdu),
    }
}

type ContextResult = (u8, Option<Uid>);

fn result(value: &[u8], asked: &Request) -> Result<(u8, ContextResult), Fault> {
    let [id, _, result @ 0..=4, _, rest @ ..] = value else { return Err(Fault::MalformedPdu) };
    let context = asked.contexts.iter().find(|context| context.id == *id).ok_or(Fault::Answer)?;
    if *result != 0 {
        // What else it says is not significant (PS3.8 section 9.3.3.2).
        return Ok((*id, (*result, None)));
    }
    let mut syntax = None;
    for item in items(rest) {
        match item? {
            (0x40, value) => once(&mut syntax, Uid::read(value).ok_or(Fault::MalformedPdu)?)?,
            _ => return Err(Fault::MalformedPdu),
        }
    }
    let syntax = syntax.filter(|syntax| context.transfer_syntaxes.contains(syntax)).ok_or(Fault::Answer)?;
    Ok((*id, (0, Some(syntax))))
}

#[cfg(test)]
#[path = "associate_tests.rs"]
pub(in crate::dicom) mod tests;
