//! The durable queue on a real database: order, retries, acknowledgement, crashes.

#[cfg(test)]
mod database;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod torture;
#[cfg(test)]
mod volume;
