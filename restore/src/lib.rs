//! `gtide-restore`: the archive back to binary logs, or a loud refusal.
//!
//! It needs the bucket and the key, and neither the archiver's database nor a MySQL server.
//!
//! | modules | what |
//! |---|---|
//! | [`range`] [`source`] [`history`] [`selection`] [`survey`] | pure: which files, in which order, with nothing missing between them |
//! | [`destination`] [`entries`] [`object`] | what a destination holds; entries and files read back, proved |
//! | [`ls`] [`mod@cat`] [`fetch`] [`verify`] | one command each |
//! | [`output`] [`progress`] [`cli`] | stdout is data, stderr the rest; REPORTS.md has the JSON |

pub mod cat;
pub mod cli;
pub mod destination;
pub mod entries;
pub mod fetch;
pub mod history;
pub mod ls;
pub mod object;
pub mod output;
pub mod progress;
pub mod range;
pub mod selection;
pub mod source;
pub mod survey;
pub mod verify;

/// The documents that the code cites.
#[cfg(doc)]
pub mod _documentation {
    #[doc = include_str!("../REPORTS.md")]
    pub mod reports {}
}
