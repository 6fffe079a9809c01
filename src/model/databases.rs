//! Databases that clients of InfluxDB 1.x asked for, with what they said of them: told to the inputs that are asked which there
//! are, and to the outputs that create theirs.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// Databases that are remembered.
pub const DATABASES_MAX: usize = 1000;

/// How a database is to keep its points, word by word as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// `DURATION`: how long.
    pub duration: Option<String>,
    /// `REPLICATION`: how often.
    pub replication: Option<String>,
    /// `SHARD DURATION`: in pieces of what length.
    pub shard_duration: Option<String>,
    /// `NAME`: under what name.
    pub name: Option<String>,
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return Ok(());
        }
        f.write_str(" WITH")?;
        let said = [
            ("DURATION", &self.duration),
            ("REPLICATION", &self.replication),
            ("SHARD DURATION", &self.shard_duration),
        ];
        for (clause, word) in said.iter().filter_map(|(clause, word)| Some((clause, word.as_ref()?))) {
            write!(f, " {clause} {word}")?;
        }
        if let Some(name) = &self.name {
            f.write_str(" NAME ")?;
            quote(f, name)?;
        }
        Ok(())
    }
}

/// An identifier of InfluxQL.
fn quote(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in name.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            '\n' => f.write_str("\\n")?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}

/// The databases, by name. Of one that is asked for again, the last word is right.
#[derive(Debug, Default)]
pub struct Databases(Mutex<BTreeMap<String, Retention>>);

impl Databases {
    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Retention> {
        self.0.lock().clone()
    }

    /// Takes up what was known before, as much as is remembered.
    pub fn recall(&self, known: BTreeMap<String, Retention>) {
        *self.0.lock() = known.into_iter().take(DATABASES_MAX).collect();
    }

    /// Notes that somebody asked for a database. False when there are too many.
    #[must_use]
    pub fn create(&self, name: String, retention: Retention) -> bool {
        let mut databases = self.0.lock();
        let has_room = databases.len() < DATABASES_MAX || databases.contains_key(&name);
        if has_room {
            databases.insert(name, retention);
        }
        has_room
    }

    /// The statement that creates a database as it was asked for, or plainly where nobody did.
    pub fn statement(&self, name: &str) -> String {
        let retention = self.0.lock().get(name).cloned().unwrap_or_default();
        Statement { name, retention }.to_string()
    }
}

struct Statement<'a> {
    name: &'a str,
    retention: Retention,
}

impl fmt::Display for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CREATE DATABASE ")?;
        quote(f, self.name)?;
        write!(f, "{}", self.retention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_bounded() {
        let databases = Databases::default();
        for number in 0..DATABASES_MAX {
            assert!(databases.create(format!("db{number}"), Retention::default()));
        }
        assert!(databases.create("db0".to_owned(), Retention::default()), "known");
        assert!(!databases.create("more".to_owned(), Retention::default()));
        assert_eq!(databases.names().len(), DATABASES_MAX);
    }

    #[test]
    fn a_database_is_created_as_it_was_asked_for() {
        let databases = Databases::default();
        let said = |text: &str| Some(text.to_owned());
        let whole = Retention {
            duration: said("7d"),
            replication: said("1"),
            shard_duration: said("1h"),
            name: said("a \"week\""),
        };
        assert!(databases.create("d".to_owned(), whole.clone()));
        assert!(databases.create("e".to_owned(), Retention { shard_duration: None, name: None, ..whole }));
        let cases = [
            ("d", r#"CREATE DATABASE "d" WITH DURATION 7d REPLICATION 1 SHARD DURATION 1h NAME "a \"week\"""#),
            ("e", r#"CREATE DATABASE "e" WITH DURATION 7d REPLICATION 1"#),
            ("no\\body \"asked\"", r#"CREATE DATABASE "no\\body \"asked\"""#),
        ];
        for (name, expected) in cases {
            assert_eq!(databases.statement(name), expected);
        }
    }
}
