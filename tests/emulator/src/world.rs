//! What all connections share: the accepted keys, the log, and the objects that clients stored.
//!
//! Invariant: at most `MAX_OBJECTS` objects and `MAX_STORED_BYTES` of content; the oldest go first.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::Value;

use crate::{Api, options::Keys, seen::Log};

const MAX_OBJECTS: usize = 1024;
const MAX_STORED_BYTES: usize = 256 * 1024 * 1024;

/// The state behind every connection.
pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) demo: bool,
    pub(crate) port: u16,
    keys: RwLock<Keys>,
    objects: Mutex<VecDeque<Object>>,
    next_id: AtomicU64,
}

/// Something a client made: a file, a batch, a response, an upload in progress.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) api: Api,
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) about: Value,
    pub(crate) content: Bytes,
}

impl World {
    pub(crate) fn new(keys: Keys, demo: bool, port: u16) -> Self {
        Self {
            log: Log::default(),
            demo,
            port,
            keys: RwLock::new(keys),
            objects: Mutex::default(),
            next_id: AtomicU64::new(1),
        }
    }

    pub(crate) fn keys(&self) -> Keys {
        self.keys.read().expect("nobody panics while holding the keys").clone()
    }

    pub(crate) fn replace_key(&self, api: Api, key: &str) {
        self.keys.write().expect("nobody panics while holding the keys").replace(api, key);
    }

    pub(crate) fn opens(&self, api: Api, key: &str) -> bool {
        self.keys.read().expect("nobody panics while holding the keys").opens(api, key)
    }

    /// An id like `file-emu000001`, never given twice.
    pub(crate) fn make_id(&self, prefix: &str) -> String {
        format!("{prefix}emu{:08x}", self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn keep(&self, object: Object) {
        let mut objects = self.objects();
        objects.retain(|kept| kept.id != object.id);
        objects.push_back(object);
        while objects.len() > MAX_OBJECTS
            || objects.iter().map(|kept| kept.content.len()).sum::<usize>() > MAX_STORED_BYTES
        {
            objects.pop_front();
        }
    }

    pub(crate) fn find(&self, api: Api, kind: &str, id: &str) -> Option<Object> {
        let objects = self.objects();
        objects.iter().find(|o| o.api == api && o.kind == kind && o.id == id).cloned()
    }

    pub(crate) fn list(&self, api: Api, kind: &str) -> Vec<Value> {
        let objects = self.objects();
        let matching = objects.iter().rev().filter(|o| o.api == api && o.kind == kind);
        matching.map(|o| o.about.clone()).collect()
    }

    pub(crate) fn forget(&self, api: Api, kind: &str, id: &str) -> bool {
        let mut objects = self.objects();
        let before = objects.len();
        objects.retain(|o| !(o.api == api && o.kind == kind && o.id == id));
        objects.len() < before
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, VecDeque<Object>> {
        self.objects.lock().expect("nobody panics while holding the objects")
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
