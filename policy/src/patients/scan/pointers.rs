//! JSON pointers (RFC 6901) that the configuration gives, with `*` for any element or member.

use smallvec::SmallVec;

use super::json::Text;
use crate::patients::PatientSource;
use crate::patients::found::{Found, Sink as _};

/// Most pointers of one rule and direction.
pub(crate) const MAX_POINTERS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Any,
    /// A member's name, or an element's number.
    Name(Box<str>),
}

/// A pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Box<[Step]>);

impl Pointer {
    /// Reads a pointer; nothing if it is none. The empty pointer, which is the whole document, is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.strip_prefix('/')?.split('/').map(step).collect::<Option<_>>().map(Self)
    }

    fn step(&self, level: usize) -> Option<&Step> {
        self.0.get(level)
    }
}

fn step(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::Any);
    }
    let mut parts = text.split('~');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(1)?;
        name.push(match escaped {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        name.push_str(rest);
    }
    Some(Step::Name(name.into()))
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    array: bool,
    /// The element that comes next.
    index: u32,
    /// Pointers whose steps lead here, by place.
    here: u32,
    /// Of those, the ones that lead on to the member or element that comes next.
    next: u32,
}

/// Follows the pointers through a document.
#[derive(Debug)]
pub(super) struct PointerScan {
    pointers: std::sync::Arc<[Pointer]>,
    frames: SmallVec<[Frame; 8]>,
    source: PatientSource,
}

impl PointerScan {
    pub(super) fn new(pointers: std::sync::Arc<[Pointer]>, source: PatientSource) -> Self {
        Self { pointers, frames: SmallVec::new(), source }
    }

    /// Pointers that lead to the value that comes next.
    fn next(&self) -> u32 {
        self.frames.last().map_or(u32::MAX, |frame| frame.next)
    }

    fn follow(&self, level: usize, here: u32, matches: impl Fn(&str) -> bool) -> u32 {
        let leads = |at: usize, pointer: &Pointer| {
            here >> at & 1 == 1
                && match pointer.step(level) {
                    Some(Step::Any) => true,
                    Some(Step::Name(name)) => matches(name),
                    None => false,
                }
        };
        let followed = self.pointers.iter().take(MAX_POINTERS).enumerate();
        followed.filter(|(at, pointer)| leads(*at, pointer)).fold(0, |mask, (at, _)| mask | 1 << at)
    }

    /// Which pointers lead on to the element that comes next.
    fn enter_element(&mut self) {
        let level = self.frames.len().saturating_sub(1);
        let Some(frame) = self.frames.last().copied().filter(|frame| frame.array) else { return };
        let next = match frame.here {
            0 => 0,
            here => self.follow(level, here, |name| name.parse() == Ok(frame.index)),
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.next = next;
            frame.index = frame.index.saturating_add(1);
        }
    }

    pub(super) fn begin(&mut self, array: bool) {
        let here = self.next();
        self.frames.push(Frame { array, index: 0, here, next: 0 });
        self.enter_element();
    }

    pub(super) fn end(&mut self) {
        self.frames.pop();
        self.enter_element();
    }

    pub(super) fn key(&mut self, name: &[u8]) {
        let level = self.frames.len().saturating_sub(1);
        let here = self.frames.last().map_or(0, |frame| frame.here);
        let next = if here == 0 { 0 } else { self.follow(level, here, |wanted| wanted.as_bytes() == name) };
        if let Some(frame) = self.frames.last_mut() {
            frame.next = next;
        }
    }

    pub(super) fn wants(&self) -> bool {
        let level = self.frames.len();
        let next = self.next();
        let leads = |at: usize, pointer: &Pointer| next >> at & 1 == 1 && pointer.step(level).is_none();
        next != 0 && self.pointers.iter().take(MAX_POINTERS).enumerate().any(|(at, pointer)| leads(at, pointer))
    }

    pub(super) fn scalar(&mut self, text: Option<Text<'_>>, found: &mut Found) {
        if let Some(text) = text.filter(|_| self.wants()) {
            let is_number = text.bytes.first().is_some_and(|first| first.is_ascii_digit() || *first == b'-');
            if text.quoted || is_number {
                if text.cut {
                    found.truncate();
                }
                found.add(&String::from_utf8_lossy(text.bytes), None, self.source);
            }
        }
        self.enter_element();
    }
}
