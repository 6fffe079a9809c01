//! Strings of rendered series, numbered for the whole process while something holds them.
//!
//! A body's symbol table then needs no map: an encoder looks a string's place up by its number, in an array. Numbers of
//! dropped strings are given out again, so the array stays as short as the strings are many.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

/// A string with its number.
#[derive(Debug)]
pub(super) struct Symbol {
    pub(super) id: u32,
    pub(super) text: Box<str>,
}

#[derive(Default)]
struct Table {
    by_text: HashMap<Box<str>, Weak<Symbol>>,
    free: Vec<u32>,
    next: u32,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

/// The symbol of a string: the same for the same string as long as it is held somewhere.
pub(super) fn intern(text: &str) -> Arc<Symbol> {
    let table = &mut *TABLE.lock();
    if let Some(known) = table.by_text.get(text).and_then(Weak::upgrade) {
        return known;
    }
    let id = table.free.pop().unwrap_or_else(|| {
        table.next += 1;
        table.next - 1
    });
    let symbol = Arc::new(Symbol { id, text: text.into() });
    table.by_text.insert(text.into(), Arc::downgrade(&symbol));
    symbol
}

impl Drop for Symbol {
    fn drop(&mut self) {
        let table = &mut *TABLE.lock();
        // The string may have got a new symbol since the last holder let go of this one.
        if table.by_text.get(&self.text).is_some_and(|symbol| std::ptr::eq(symbol.as_ptr(), self)) {
            table.by_text.remove(&self.text);
        }
        table.free.push(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_keeps_its_number_while_it_is_held() {
        let one = intern("symbols-test-one");
        let other = intern("symbols-test-other");
        assert_ne!(one.id, other.id);
        assert!(Arc::ptr_eq(&one, &intern("symbols-test-one")));
        drop(one);
        assert!(!TABLE.lock().by_text.contains_key("symbols-test-one"));
        assert_ne!(intern("symbols-test-one").id, other.id);
    }
}
