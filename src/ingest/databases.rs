//! `<log.dir>/databases.json`: the databases that clients asked for, so that an output that creates one after a restart does it as
//! they said.
//!
//! Written when something was said that it does not tell yet; a file that cannot be read is set aside, and nobody has asked for
//! anything.

use super::Gate;
use crate::log::{self, Aside};
use crate::model::{Databases, Retention};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

const FILE: &str = "databases.json";
const VERSION: u64 = 1;

/// What the file tells.
#[derive(Debug, Default)]
pub(super) struct Saved(Mutex<BTreeMap<String, Retention>>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u64,
    databases: BTreeMap<String, Retention>,
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Retention>, Aside> {
    let any: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| Aside::Damaged)?;
    if any["version"].as_u64() > Some(VERSION) {
        return Err(Aside::Newer);
    }
    let contents: Contents = serde_json::from_value(any).map_err(|_| Aside::Damaged)?;
    Ok(contents.databases)
}

impl Gate {
    /// The same gate, which tells others of the databases that clients ask for, and have asked for before.
    ///
    /// # Errors
    /// When the file beside the log can neither be read nor be set aside.
    pub fn with_databases(self, databases: Arc<Databases>) -> io::Result<Self> {
        let path = self.databases_file();
        log::remove(self.log.storage(), &log::temporary(&path))?;
        match std::fs::read(&path).map(|bytes| decode(&bytes)) {
            Ok(Ok(known)) => databases.recall(known),
            Ok(Err(why)) => self.log.set_aside(&path, why)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let saved = Mutex::new(databases.all());
        Ok(Self { databases, databases_saved: Saved(saved), ..self })
    }

    fn databases_file(&self) -> PathBuf {
        self.log.dir().join(FILE)
    }

    /// Saves what clients asked for. What the disk does not take is known until the process ends.
    pub(super) async fn save_databases(&self) {
        let (mut saved, databases) = (self.databases_saved.0.lock().await, self.databases.all());
        if databases == *saved {
            return;
        }
        let (log, path) = (Arc::clone(&self.log), self.databases_file());
        let saving = tokio::task::spawn_blocking(move || {
            let contents = Contents { version: VERSION, databases };
            log::replace(log.storage(), &path, &serde_json::to_vec(&contents)?, true)?;
            Ok(contents.databases)
        });
        match saving.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(databases) => *saved = databases,
            Err(error) if self.warnings.now() => {
                tracing::error!(%error, "the databases that clients asked for could not be saved");
            }
            Err(_) => {}
        }
    }
}
