//! `gtide-restore`: the archive back to binary logs, or a loud refusal.
//!
//! It needs the bucket and the key, and neither the archiver's database nor a MySQL server.
//!
//! | modules | what |
//! |---|---|
//! | [`range`] [`source`] [`history`] [`selection`] [`survey`] | pure: which files, in which order, with nothing missing between them |
//! | [`timeline`] [`target`] [`cut`] [`path`] [`plan`] | pure: all servers' files as one history, and the way through it to a moment |
//! | [`destination`] [`entries`] [`object`] [`ranged`] [`part`] | what a destination holds; entries and files read back, proved |
//! | [`locate`] [`planning`] | the cuts that a plan asks for, found in few blocks |
//! | [`server`] | a MySQL server to restore into, asked through `mysql` |
//! | [`ls`] [`mod@cat`] [`fetch`] [`apply`] [`rehearse`] [`find`] [`verify`] [`serve`] | one command each |
//! | [`output`] [`progress`] [`cli`] | stdout is data, stderr the rest; REPORTS.md has the JSON |

pub mod apply;
pub mod cat;
pub mod cli;
pub mod copies;
pub mod cut;
pub mod destination;
pub mod entries;
pub mod fetch;
pub mod find;
pub mod history;
pub mod locate;
pub mod ls;
pub mod object;
pub mod output;
pub mod part;
pub mod path;
pub mod plan;
pub mod planning;
pub mod progress;
pub mod range;
pub mod ranged;
pub mod rehearse;
pub mod selection;
pub mod serve;
pub mod server;
pub mod source;
pub mod survey;
pub mod target;
pub mod timeline;
pub mod verify;

/// The documents that the code cites.
#[cfg(doc)]
pub mod _documentation {
    #[doc = include_str!("../PITR.md")]
    pub mod recovery {}
    #[doc = include_str!("../REPORTS.md")]
    pub mod reports {}
}
