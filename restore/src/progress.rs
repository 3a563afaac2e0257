//! Progress of long work: a bar on a terminal's stderr, and nothing anywhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of bytes.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar for `total` bytes; indicatif hides it when stderr is no terminal.
    pub fn bytes(verb: &'static str, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_prefix(verb);
        let style = ProgressStyle::with_template(
            "{prefix} {bar:32} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// More bytes are done.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// The work is larger than was known.
    pub fn grow(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    /// What to show behind the numbers.
    pub fn note(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Progress {
    /// Clears the bar, so that it does not stand between reports.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
