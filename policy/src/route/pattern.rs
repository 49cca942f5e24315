//! Paths in the configuration: prefixes of literals, patterns with wildcards.

use std::borrow::Cow;

use crate::target::CanonicalTarget;

/// A configured path as long as a target may be by default.
const MAX_PATH_BYTES: usize = 16 * 1024;

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// This segment, decoded.
    Literal(Box<str>),
    /// Any one segment.
    One,
    /// One segment that is a patient's identifier.
    Patient,
}

/// The path of a rule below its route's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pieces: Box<[Piece]>,
    /// Whether it ended in `**`.
    open: bool,
}

impl Pattern {
    /// Reads a pattern; nothing if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (closed, open) = text.strip_suffix("/**").map_or((text, false), |before| (before, true));
        let pieces = match closed {
            "" if open => Box::default(),
            "/" if !open => Box::default(),
            _ => closed.strip_prefix('/')?.split('/').map(Piece::parse).collect::<Option<_>>()?,
        };
        Some(Self { pieces, open })
    }

    pub(crate) fn matches(&self, segments: &[Cow<'_, str>]) -> bool {
        let right_length =
            if self.open { segments.len() >= self.pieces.len() } else { segments.len() == self.pieces.len() };
        right_length
            && self.pieces.iter().zip(segments).all(|(piece, segment)| match piece {
                Piece::Literal(literal) => **literal == **segment,
                Piece::One | Piece::Patient => true,
            })
    }

    /// Whether the segment at a position is given rather than a wildcard's.
    pub(crate) fn is_literal_at(&self, position: usize) -> bool {
        matches!(self.pieces.get(position), Some(Piece::Literal(_)))
    }

    /// Where the patients' identifiers stand.
    pub(crate) fn patient_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.pieces.iter().enumerate().filter(|(_, piece)| **piece == Piece::Patient).map(|(position, _)| position)
    }
}

impl Piece {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::One),
            "{patient}" => Some(Self::Patient),
            // A wildcard inside a literal would look as if it worked; a literal `*` is written `%2A`.
            _ if text.contains('*') => None,
            _ => literal_segments(&format!("/{text}"))?.into_vec().pop().map(Self::Literal),
        }
    }
}

/// The decoded segments of a literal path in normal form without query and trailing slash; none if it is not that.
pub(crate) fn literal_segments(path: &str) -> Option<Box<[Box<str>]>> {
    let target = CanonicalTarget::parse(path.as_bytes(), MAX_PATH_BYTES).ok()?;
    let trailing = path.len() > 1 && path.ends_with('/');
    if trailing || target.query().is_some() {
        return None;
    }
    Some(target.segments().map(|segment| Box::from(&*segment)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let target = CanonicalTarget::parse(path.as_bytes(), MAX_PATH_BYTES).unwrap();
        Pattern::parse(pattern).unwrap().matches(&target.segments().collect::<Vec<_>>())
    }

    #[test]
    fn patterns_match_whole_segments() {
        for (pattern, yes, no) in [
            ("/", &["/"] as &[_], &["/a"] as &[_]),
            ("/a", &["/a", "/a/"], &["/", "/ab", "/A", "/a/b"]),
            ("/a/*", &["/a/b", "/a/b/"], &["/a", "/a/b/c"]),
            ("/a/**", &["/a", "/a/b", "/a/b/c"], &["/", "/ab"]),
            ("/**", &["/", "/a", "/a/b"], &[]),
            ("/*/**", &["/a", "/a/b"], &["/"]),
            ("/p/{patient}/x", &["/p/1/x"], &["/p/1", "/p/1/y", "/p/1/2/x"]),
            ("/a%20b/%2A", &["/a%20b/*", "/a%20b/%2A"], &["/a+b/*", "/a%20b/c"]),
            ("/%24x", &["/$x", "/%24x"], &["/x"]),
        ] {
            for path in yes {
                assert!(matches(pattern, path), "{pattern} {path}");
            }
            for path in no {
                assert!(!matches(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "a",
            "*",
            "**",
            "//",
            "//**",
            "/a/",
            "/a//b",
            "/**/a",
            "/a*",
            "/a/**b",
            "/***",
            "/{user}",
            "/{patient}x",
            "/a?b",
            "/./a",
            "/..",
            "/a;b",
            "/%61",
            "/a b",
            "/a#",
            "/あ",
        ] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }
}
