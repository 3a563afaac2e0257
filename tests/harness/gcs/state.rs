//! What the server holds.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;

/// How many bytes came for a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The object that it was to become.
    pub name: String,
    /// Bytes of all chunks, as far as they came.
    pub received: u64,
    /// Bytes that were kept.
    pub kept: u64,
    /// Times that it was asked how far it is.
    pub asked: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) body: Bytes,
    pub(super) generation: i64,
    pub(super) crc32c: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// It has become the object of this generation.
    Done(i64),
    Cancelled,
    Expired,
    /// Its object was refused.
    Failed,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) nth: usize,
    pub(super) name: String,
    pub(super) must_be_new: bool,
    pub(super) crc32c: Option<u32>,
    pub(super) body: Vec<u8>,
    pub(super) life: Life,
    pub(super) received: u64,
    pub(super) asked: usize,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) sessions: HashMap<String, Session>,
    pub(super) tokens: HashSet<String>,
    pub(super) token_life: u64,
    pub(super) refuse_tokens: VecDeque<u16>,
    pub(super) keep_only: VecDeque<u64>,
    generation: i64,
    given: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            sessions: HashMap::new(),
            tokens: HashSet::new(),
            token_life: 3600,
            refuse_tokens: VecDeque::new(),
            keep_only: VecDeque::new(),
            // No small number: nobody may take it for a count.
            generation: 1_700_000_000_000_000,
            given: 0,
        }
    }
}

impl State {
    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    pub(super) fn replace(&mut self, name: &str, body: Bytes) -> i64 {
        self.generation += 1;
        let object = Object {
            crc32c: crc32c::crc32c(&body),
            body,
            generation: self.generation,
        };
        self.objects.insert(name.to_owned(), object);
        self.generation
    }

    pub(super) fn expire_sessions(&mut self) {
        for session in self.sessions.values_mut() {
            if session.life == Life::Open {
                session.life = Life::Expired;
            }
        }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let mut sessions: Vec<&Session> = self.sessions.values().collect();
        sessions.sort_by_key(|session| session.nth);
        let seen = sessions.into_iter().map(|session| Seen {
            name: session.name.clone(),
            received: session.received,
            kept: session.body.len() as u64,
            asked: session.asked,
        });
        seen.collect()
    }
}
