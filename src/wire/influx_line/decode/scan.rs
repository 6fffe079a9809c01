//! A place in a body to the place where something ends: spaces, a line, a head, a name, a value, a string, a row.
//!
//! Nothing here judges what it passes over.

use memchr::{memchr, memchr_iter, memchr2, memrchr};

#[inline]
pub(super) fn skip_spaces(body: &[u8], mut at: usize) -> usize {
    while body.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}

/// Where the next line begins, when the line ends here.
#[inline]
pub(super) fn line_end(body: &[u8], at: usize) -> Option<usize> {
    match (body.get(at), body.get(at + 1)) {
        (None, _) => Some(at),
        (Some(b'\n'), _) | (Some(b'\r'), None) => Some(at + 1),
        (Some(b'\r'), Some(b'\n')) => Some(at + 2),
        _ => None,
    }
}

/// The end of `measurement,tags`: the first space that no backslash precedes, or the end of the line.
#[inline]
pub(super) fn head_end(body: &[u8], start: usize) -> usize {
    let mut from = start;
    while let Some(found) = memchr2(b' ', b'\n', &body[from..]) {
        let at = from + found;
        if body[at] == b'\n' || at == start || body[at - 1] != b'\\' {
            return at;
        }
        from = at + 1;
    }
    body.len()
}

/// Bytes that end a tag key, a tag value or a field key, when no backslash stands before them.
const fn ends_name() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 32 {
        table[byte] = true;
        byte += 1;
    }
    table[127] = true;
    table[b',' as usize] = true;
    table[b'=' as usize] = true;
    table[b' ' as usize] = true;
    table
}

/// See [`ends_name`].
static ENDS_NAME: [bool; 256] = ends_name();

/// The end of a tag key, tag value or field key.
#[inline]
pub(super) fn name_end(body: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = body.get(at) {
        if byte == b'\\' {
            at += if matches!(body.get(at + 1), Some(b',' | b'=' | b' ')) { 2 } else { 1 };
        } else if ENDS_NAME[usize::from(byte)] {
            break;
        } else {
            at += 1;
        }
    }
    at
}

pub(super) fn measurement_end(body: &[u8], start: usize) -> usize {
    let mut at = name_end(body, start);
    while body.get(at) == Some(&b'=') {
        at = name_end(body, at + 1);
    }
    at
}

#[inline]
pub(super) fn value_end(body: &[u8], mut at: usize) -> usize {
    while !matches!(body.get(at), None | Some(b',' | b' ' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The quote that ends a string whose inside begins there.
pub(super) fn closing_quote(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Length of the rows that end within the body, line ends included: where a stream can be cut. The body begins with a row.
pub fn whole_rows(body: &[u8]) -> usize {
    if memchr(b'"', body).is_none() {
        return memrchr(b'\n', body).map_or(0, |end| end + 1);
    }
    let mut at = 0;
    while let Some(end) = row_end(body, at).filter(|end| *end < body.len()) {
        at = end + 1;
    }
    at
}

/// The text of the row that begins on that line (from 1), without its line end: a string field may hold further lines.
pub fn line(body: &[u8], line_number: usize) -> &[u8] {
    let start = match line_number.checked_sub(2) {
        None => 0,
        Some(nth) => memchr_iter(b'\n', body).nth(nth).map_or(body.len(), |end| end + 1),
    };
    let rest = &body[start..];
    let row = &rest[..row_end(rest, 0).unwrap_or(rest.len())];
    row.strip_suffix(b"\r").unwrap_or(row)
}

/// Where the row that begins there ends: at a line feed, or at the end of the body. None when a quote stays open.
fn row_end(body: &[u8], start: usize) -> Option<usize> {
    let first = skip_spaces(body, start);
    if body.get(first) == Some(&b'#') {
        return Some(memchr(b'\n', &body[first..]).map_or(body.len(), |end| first + end));
    }
    // Only field values can hold a line end: look for `="` behind the head.
    let mut at = head_end(body, first);
    while let Some(found) = memchr2(b'"', b'\n', &body[at..]) {
        at += found;
        if body[at] == b'\n' {
            return Some(at);
        }
        let opens = body[..at].ends_with(b"=") && !body[..at].ends_with(b"\\=");
        at = if opens { closing_quote(body, at + 1)? + 1 } else { at + 1 };
    }
    Some(body.len())
}
