//! The server of each source that names one: reached, of the right files, with the rights that are used, and set up so that
//! its binary logs serve recovery.

use super::within;
use crate::config::{Config, ServerConfig, SourceConfig};
use crate::finding::Finding;
use crate::mysql::{Server, grants, settings};
use crate::watch;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &config.sources {
        match &source.server {
            Some(server) => findings.extend(check_one(config, source, server).await),
            None => findings.push(Finding::ok(
                "server",
                &source.name,
                "not named: nothing is compared with it, and nothing is purged",
            )),
        }
    }
    findings
}

async fn check_one(config: &Config, source: &SourceConfig, server: &ServerConfig) -> Vec<Finding> {
    let name = &source.name;
    let mut session = Server::new(server);
    let answers = match within(session.ask()).await {
        Ok(answers) => answers,
        Err(error) => return vec![Finding::error("server", name, &error)],
    };
    let version = answers.variable("version");
    let mut findings = vec![Finding::ok(
        "server",
        name,
        format!("{}: MySQL {version}", session.name()),
    )];
    match within(session.grants()).await {
        Ok(granted) => {
            let account = server.address.user().unwrap_or("the account");
            let wanted = grants::Wanted {
                rotates: server.max_rpo.is_some(),
                purges: config.purge.auto,
            };
            findings.extend(grants::judge(name, account, &granted, wanted));
        }
        Err(error) => findings.push(Finding::error("server-grants", name, &error)),
    }
    let files_of = watch::server_uuid(source).ok();
    findings.extend(settings::judge(name, &answers, &source.index, files_of));
    for address in &server.replicas {
        let mut replica = Server::replica(address, server);
        findings.push(match within(replica.received()).await {
            Ok(_) => Finding::ok("server-replica", address.to_string(), "tells what it has"),
            Err(error) => Finding::error("server-replica", address.to_string(), &error),
        });
    }
    findings
}
