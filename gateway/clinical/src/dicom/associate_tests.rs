//! Tests of A-ASSOCIATE PDUs.

use proptest::prelude::*;

use super::*;

pub(in crate::dicom) fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_item(&mut out, kind, value);
    out
}

pub(in crate::dicom) fn context(id: u8, class: &str, syntaxes: &[&str]) -> Vec<u8> {
    let mut value = vec![id, 0, 0, 0];
    value.extend(item(0x30, class.as_bytes()));
    for syntax in syntaxes {
        value.extend(item(0x40, syntax.as_bytes()));
    }
    item(0x20, &value)
}

/// The body of a request with these items between the application context and the user information.
pub(in crate::dicom) fn request(called: &str, calling: &str, contexts: &[Vec<u8>], more: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(format!("{called:16}{calling:16}").into_bytes());
    body.extend([0; 32]);
    body.extend(item(0x10, APPLICATION.as_bytes()));
    body.extend(contexts.concat());
    let mut information = item(0x51, &16_384_u32.to_be_bytes());
    information.extend(item(0x52, b"1.2.3.4"));
    information.extend(more.concat());
    body.extend(item(0x50, &information));
    body
}

/// The body of an answer.
pub(in crate::dicom) fn answer(results: &[(u8, u8, &str)], more: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend([b' '; 32]);
    body.extend([0; 32]);
    body.extend(item(0x10, APPLICATION.as_bytes()));
    for (id, result, syntax) in results {
        let mut value = vec![*id, 0, *result, 0];
        value.extend(item(0x40, syntax.as_bytes()));
        body.extend(item(0x21, &value));
    }
    let mut information = item(0x51, &16_384_u32.to_be_bytes());
    information.extend(more.concat());
    body.extend(item(0x50, &information));
    body
}

pub(in crate::dicom) const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
pub(in crate::dicom) const GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
pub(in crate::dicom) const SECONDARY: &str = "1.2.840.10008.5.1.4.1.1.7";
pub(in crate::dicom) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(in crate::dicom) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

fn role(class: &str) -> Vec<u8> {
    let mut value = (class.len() as u16).to_be_bytes().to_vec();
    value.extend_from_slice(class.as_bytes());
    value.extend([0, 1]);
    item(0x54, &value)
}

fn identity(kind: u8, name: &str, passcode: &str) -> Vec<u8> {
    let mut value = vec![kind, 0];
    for part in [name, passcode] {
        value.extend((part.len() as u16).to_be_bytes());
        value.extend_from_slice(part.as_bytes());
    }
    item(0x58, &value)
}

fn written(request: &Request) -> Vec<u8> {
    let mut out = Outbox::default();
    request.write(&mut out);
    out.pending()[6..].to_vec()
}

#[test]
fn a_request_is_written_as_it_was_judged() {
    let contexts =
        [context(1, FIND, &[IMPLICIT, DEFLATED]), context(3, SECONDARY, &[EXPLICIT]), context(5, GET, &[DEFLATED])];
    let more = [item(0x53, &[0, 9, 0, 9]), role(SECONDARY), identity(2, "sato", "secret"), item(0x77, b"x")];
    let read = Request::read(&request("PACS", " MOD1", &contexts, &more)).unwrap();
    assert_eq!((read.calling.as_str(), read.called.as_str()), ("MOD1", "PACS"));
    assert_eq!(
        read.contexts[0].transfer_syntaxes,
        [Uid::new(IMPLICIT).unwrap()],
        "what cannot be read is not proposed"
    );
    assert_eq!(read.identity().unwrap().name.as_deref(), Some("sato"));
    assert!(!format!("{read:?}").contains("secret"));

    let narrowed = read.narrowed(|context| context.id != 3, false);
    let again = Request::read(&written(&narrowed)).unwrap();
    assert_eq!(again.contexts.iter().map(|context| context.id).collect::<Vec<_>>(), [1]);
    assert!(again.information.by_class.is_empty(), "the role went with its class");
    assert!(again.identity().is_none());
    let whole = read.narrowed(|_| true, true);
    assert_eq!(Request::read(&written(&whole)).unwrap().identity(), read.identity());

    let mut out = Outbox::default();
    let answer = Answer::read(&answer(&[(1, 0, IMPLICIT)], &[role(SECONDARY)]), &narrowed).unwrap();
    answer.write(&read, &mut out);
    let body = &out.pending()[6..];
    let results: Vec<_> = items(&body[68..]).map(Result::unwrap).filter(|(kind, _)| *kind == 0x21).collect();
    assert_eq!(results.iter().map(|(_, value)| (value[0], value[2])).collect::<Vec<_>>(), [(1, 0), (3, 1), (5, 4)]);
    assert!(answer.information.by_class.is_empty(), "a role that was not proposed");
    assert_eq!(&body[4..36], &read.titles);
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let good = context(1, FIND, &[IMPLICIT]);
    let malformed = Err(Unfit::Fault(Fault::MalformedPdu));
    let mut two_classes = vec![3, 0, 0, 0];
    two_classes.extend(item(0x30, FIND.as_bytes()));
    two_classes.extend(item(0x30, GET.as_bytes()));
    two_classes.extend(item(0x40, IMPLICIT.as_bytes()));
    let cases = [
        (vec![], vec![]),
        (vec![good.clone(), context(1, GET, &[IMPLICIT])], vec![]),
        (vec![context(2, FIND, &[IMPLICIT])], vec![]),
        (vec![context(1, FIND, &[])], vec![]),
        (vec![context(1, "1.2 ", &[IMPLICIT])], vec![]),
        (vec![item(0x20, &two_classes)], vec![]),
        (vec![good.clone(), item(0x50, &[])], vec![]),
        (vec![good.clone(), item(0x10, APPLICATION.as_bytes())], vec![]),
        (vec![good.clone(), vec![0x20, 0, 0, 99]], vec![]),
        (vec![good.clone()], vec![item(0x51, &[0, 0, 64, 0])]),
        (vec![good.clone()], vec![item(0x54, b"\0\x011\x02\x00")]),
        (vec![good.clone()], vec![identity(1, "a", "b")]),
        (vec![good.clone()], vec![identity(1, "a", ""), identity(1, "b", "")]),
        (vec![good.clone()], vec![item(0x59, &[0, 0])]),
    ];
    for (contexts, more) in cases {
        assert_eq!(Request::read(&request("PACS", "MOD1", &contexts, &more)), malformed, "{contexts:?} {more:?}");
    }
    assert_eq!(Request::read(&[0; 40]), malformed);
    let mut version = request("PACS", "MOD1", std::slice::from_ref(&good), &[]);
    version[1] = 2;
    assert_eq!(Request::read(&version), Err(Unfit::Rejected(2, 2)));
    assert_eq!(Request::read(&request("PACS", "", std::slice::from_ref(&good), &[])), Err(Unfit::Rejected(1, 3)));
    assert_eq!(Request::read(&request("P\\CS", "MOD1", &[good], &[])), Err(Unfit::Rejected(1, 7)));
}

#[test]
fn an_answer_fits_its_request_or_is_none() {
    let asked = Request::read(&request("PACS", "MOD1", &[context(1, FIND, &[IMPLICIT])], &[])).unwrap();
    for bad in [
        answer(&[], &[]),
        answer(&[(1, 0, EXPLICIT)], &[]),
        answer(&[(1, 0, IMPLICIT), (3, 0, IMPLICIT)], &[]),
        answer(&[(1, 0, IMPLICIT)], &[identity(1, "a", "")]),
    ] {
        assert_eq!(Answer::read(&bad, &asked), Err(Fault::Answer));
    }
    assert_eq!(Answer::read(&answer(&[(1, 7, IMPLICIT)], &[]), &asked), Err(Fault::MalformedPdu));
    assert!(Answer::read(&answer(&[(1, 3, "1.2.3")], &[]), &asked).is_ok());
}

proptest! {
    #[test]
    fn what_is_read_is_written_and_read_again(at in 0_usize..400, with in any::<u8>()) {
        let contexts = [context(1, FIND, &[IMPLICIT]), context(3, SECONDARY, &[EXPLICIT])];
        let mut body = request("PACS", "MOD1", &contexts, &[role(SECONDARY), identity(2, "sato", "secret")]);
        let at = at % body.len();
        body[at] ^= with;
        if let Ok(read) = Request::read(&body).map(|read| read.narrowed(|_| true, true))
            && !read.contexts.is_empty()
        {
            prop_assert_eq!(Request::read(&written(&read)).map(|again| written(&again)), Ok(written(&read)));
        }
        let asked = Request::read(&request("PACS", "MOD1", &contexts, &[])).unwrap();
        let _ = Answer::read(&body, &asked);
    }
}
