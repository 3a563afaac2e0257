//! The durable queue on real databases: order, retries, acknowledgement, crashes, outages.

#[path = "../harness/mod.rs"]
mod servers;

/// Makes tests of scenarios (`async fn(Bench)`): one on SQLite, one on PostgreSQL.
#[cfg(test)]
macro_rules! on_both {
    ($($scenario:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(crate::bench::Bench::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs the lab: tests/lab/install"]
            async fn $scenario() {
                super::$scenario(crate::bench::Bench::postgres()).await;
            })+
        }
    };
}

#[cfg(test)]
mod ahead;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod database;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod pauses;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod server;
#[cfg(test)]
mod torture;
#[cfg(test)]
mod volume;
