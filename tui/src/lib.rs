//! gtide's console: how far each source is archived, and what is in the way.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`view`] | a picture of the ledger's state: pure, from values to cells |

pub mod cli;
pub mod view;
