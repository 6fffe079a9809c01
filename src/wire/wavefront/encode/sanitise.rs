//! Any text to text that the proxy reads as what it is: within the alphabet, between quotes, within a length.

use crate::model::{Loss, LossSet};
use crate::wire::wavefront::validate::{is_legal_byte, split_marks, utf16_length};
use std::borrow::Cow;

/// A name in Wavefront's alphabet, with the marks `∆` and `~` that may stand in front; other characters become `-`.
pub fn sanitise_name(name: &str) -> Cow<'_, str> {
    let (marks, rest) = split_marks(name);
    if marks.is_empty() || rest.is_empty() && !marks.ends_with('~') {
        return sanitise_plain(name);
    }
    match sanitise_plain(rest) {
        Cow::Borrowed(_) => Cow::from(name),
        Cow::Owned(clean) => Cow::from(format!("{marks}{clean}")),
    }
}

/// A name in Wavefront's alphabet, marks not included: outside of Wavefront they mean nothing.
pub(super) fn sanitise_plain(name: &str) -> Cow<'_, str> {
    if name.bytes().all(is_legal_byte) {
        return Cow::from(name);
    }
    let legal = |c: char| u8::try_from(c).is_ok_and(is_legal_byte);
    Cow::from(name.chars().map(|c| if legal(c) { c } else { '-' }).collect::<String>())
}

/// The same as Telegraf writes it.
pub(super) fn dotted(name: &str) -> Cow<'_, str> {
    let telegraf = |c| match c {
        '_' => '.',
        '/' | ',' => '-',
        other => other,
    };
    Cow::from(sanitise_plain(name).chars().map(telegraf).collect::<String>())
}

/// A tag value (or source) that can stand between quotes.
pub fn sanitise_value(value: &str) -> Cow<'_, str> {
    if !value.ends_with('\\') && !value.contains(char::is_control) {
        return Cow::from(value);
    }
    let characters = value.chars().filter_map(|c| match c {
        '\n' | '\t' => Some(' '),
        c if c.is_control() => None,
        c => Some(c),
    });
    let mut clean: String = characters.collect();
    if clean.ends_with('\\') {
        clean.pop();
        clean.push('_');
    }
    Cow::from(clean)
}

/// A value between quotes, as it stands in a line.
pub fn sanitise_value_quoted(value: &str) -> String {
    let mut text = Vec::with_capacity(value.len() + 2);
    push_quoted(&mut text, &sanitise_value(value));
    String::from_utf8(text).unwrap_or_default()
}

pub(super) fn push_quoted(text: &mut Vec<u8>, value: &str) {
    text.push(b'"');
    for byte in value.bytes() {
        if byte == b'"' {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text.push(b'"');
}

pub(super) fn within<'a>(text: Cow<'a, str>, length_max: usize, losses: &mut LossSet) -> Cow<'a, str> {
    match fitted(&text, length_max) {
        None => text,
        Some(cut) => {
            losses.insert(Loss::Truncated);
            Cow::from(cut.into_owned())
        }
    }
}

/// The text cut to a number of UTF-16 code units, a hash of the whole at its end; none when it fits.
pub(super) fn fitted(text: &str, length_max: usize) -> Option<Cow<'static, str>> {
    const HASH_LENGTH: usize = 9;
    if utf16_length(text) <= length_max {
        return None;
    }
    let mut room = length_max.saturating_sub(HASH_LENGTH);
    let mut cut: String = text
        .chars()
        .take_while(|c| {
            let fits = c.len_utf16() <= room;
            room = if fits { room - c.len_utf16() } else { 0 };
            fits
        })
        .collect();
    // Unkeyed: the same text must get the same end in every run and on every gateway.
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as u32;
    cut.push_str(&format!("-{hash:08x}")[..HASH_LENGTH.min(length_max)]);
    Some(Cow::from(cut))
}
