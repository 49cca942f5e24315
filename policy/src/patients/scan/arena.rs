//! Texts that are kept until the object they stand in is over: a stack, so that nothing is allocated for each.

/// Most bytes kept at once.
const MAX_BYTES: usize = 64 * 1024;

/// A kept text; empty is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    pub(super) const fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// Something could not be kept.
    pub(super) overflowed: bool,
}

impl Arena {
    /// Where the next text will stand.
    pub(super) fn mark(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// Lets go of everything since a mark.
    pub(super) fn release(&mut self, mark: u32) {
        self.bytes.truncate(usize::try_from(mark).unwrap_or(usize::MAX));
    }

    pub(super) fn keep(&mut self, text: &[u8]) -> Span {
        if self.bytes.len() + text.len() > MAX_BYTES {
            self.overflowed = true;
            return Span::default();
        }
        let start = self.mark();
        self.bytes.extend_from_slice(text);
        Span { start, length: u32::try_from(text.len()).unwrap_or(u32::MAX) }
    }

    pub(super) fn get(&self, span: Span) -> &[u8] {
        let start = usize::try_from(span.start).unwrap_or(usize::MAX);
        let length = usize::try_from(span.length).unwrap_or(usize::MAX);
        self.bytes.get(start..start.saturating_add(length)).unwrap_or_default()
    }
}
