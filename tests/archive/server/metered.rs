//! What a monitoring system is told of a source's server.

use super::{start, workspace_of};
use crate::metrics::{get, listen, samples, value};
use crate::running::Daemon;

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_server_beside_the_archive_is_metered_and_so_is_its_silence() {
    let (mut server, _) = start(&[]);
    let workspace = workspace_of(&server);
    let port = listen(&workspace);
    let daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("its metrics", || get(port, "/healthz").is_some());
    // The active file's transactions wait for its end.
    server.sql("INSERT INTO d.t VALUES ('a'); INSERT INTO d.t VALUES ('b')");
    daemon.wait_until("its transactions", || {
        let shown = samples(port);
        let is = |name: &str, expected| value(&shown, &[name, "db1"]) == Some(expected);
        is("gtide_server_up", 1.0)
            && is("gtide_server_waiting_transactions", 2.0)
            && is("gtide_server_lost_transactions", 0.0)
            && is("gtide_server_unknown_transactions", 0.0)
            && is("gtide_server_expiry_danger", 0.0)
    });
    server.kill9();
    daemon.wait_until("its silence", || {
        let shown = samples(port);
        value(&shown, &["gtide_server_up", "db1"]) == Some(0.0)
            && value(&shown, &["gtide_server_waiting_transactions"]).is_none()
    });
}
