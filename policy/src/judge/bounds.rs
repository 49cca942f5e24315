//! How large and how involved policies may be. Cedar parses, validates and evaluates by recursion: an expression that
//! is deep enough exhausts the stack, so depth is bounded before Cedar sees the text.

use super::{PolicySource, Problem};

/// Most files of one policy set.
pub const MAX_FILES: usize = 256;
/// Most bytes of one file.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// Most bytes of all files together.
pub const MAX_TOTAL_BYTES: usize = 2 * 1024 * 1024;
/// Most policies of one policy set.
pub const MAX_POLICIES: usize = 4096;
/// Deepest nesting of brackets.
const MAX_NESTING: usize = 64;
/// Most operators of one policy: a chain of them is as deep as it is long. Cedar's evaluator gives up at about 500 on
/// a stack of 2 MiB without optimisation, and its converters overflow at about 600.
const MAX_OPERATORS: usize = 400;

pub(super) fn check_sizes(sources: &[PolicySource], problems: &mut Vec<Problem>) {
    let mut whole = |file: &str, message: String| {
        problems.push(Problem { file: file.to_owned(), line: 0, column: 0, message });
    };
    if sources.len() > MAX_FILES {
        whole("policies", format!("{} files, at most {MAX_FILES} are taken", sources.len()));
    }
    let total: usize = sources.iter().map(|source| source.text.len()).sum();
    if total > MAX_TOTAL_BYTES {
        whole("policies", format!("{total} bytes, at most {MAX_TOTAL_BYTES} are taken"));
    }
    for source in sources {
        if source.text.len() > MAX_FILE_BYTES {
            whole(&source.file, format!("{} bytes, at most {MAX_FILE_BYTES} are taken", source.text.len()));
        }
    }
}

/// Where and how a text is too involved to be given to Cedar. Reads strings and comments as Cedar does.
pub(super) fn too_complex(text: &str) -> Option<(usize, String)> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut bytes = text.bytes().enumerate().peekable();
    let mut before = b' ';
    while let Some((offset, byte)) = bytes.next() {
        let next = bytes.peek().map_or(b' ', |(_, next)| *next);
        match byte {
            b'"' => {
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'/' if next == b'/' => while bytes.next_if(|(_, byte)| *byte != b'\n').is_some() {},
            b'(' | b'[' | b'{' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Some((offset, format!("brackets nest deeper than {MAX_NESTING}")));
                }
                // An index makes its expression deeper, as a member does.
                operators += usize::from(byte == b'[');
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'+' | b'-' | b'*' | b'.' | b'!' => operators += 1,
            b'&' | b'|' if byte == next => operators += 1,
            b'i' if next == b'f' && !is_word(before) => operators += 1,
            // Only statements end in a semicolon.
            b';' => operators = 0,
            _ => {}
        }
        if operators > MAX_OPERATORS {
            return Some((offset, format!("more than {MAX_OPERATORS} operators in one policy")));
        }
        before = byte;
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
