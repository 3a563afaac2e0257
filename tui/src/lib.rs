//! gtide's console: the queue, the retries and the watermarks, to be seen and acted on.
//!
//! ```text
//! connection ── pictures, outcomes ──> update ──> model ──> view ──> the terminal
//!      ^                                 ^  │
//!      └──────────── effects ────────────│──┘
//!                                      keys
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`connection`] | the database, read again and again, and changed when asked |
//! | [`session`] | one sitting at a terminal |
//! | [`model`] | what is known and shown: one value |
//! | [`update`] | every change of it, by one message after the other: no I/O, no clock |
//! | [`rows`] | what each screen lists |
//! | [`keys`] | the keys, as data |
//! | [`view`] | from the model to cells; [`look`] has colours and symbols, [`words`] times and sizes |

pub mod cli;
pub mod connection;
pub mod keys;
pub mod look;
pub mod model;
pub mod rows;
pub mod session;
pub mod update;
pub mod view;
pub mod words;
