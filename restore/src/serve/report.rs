//! What is told of an offer when it begins to be served.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use engine::gtid::GtidSet;
use serde::Serialize;

use super::listener::Listener;
use super::offer::Offer;
use crate::output::{self, REPORT_VERSION, Report};
use crate::server::quoted;

/// The replication channel that is proposed.
pub const CHANNEL: &str = "gtide";

/// How often a replica tries to connect again, once a second, before it gives up.
const RETRIES: u32 = 60;

/// Where it is served, and what. Part of `serve --format json`: additive changes only.
#[derive(Debug, Serialize)]
pub struct Served {
    report_version: u32,
    /// Where clients connect.
    pub address: SocketAddr,
    /// As whom.
    pub user: String,
    /// With what, where it was made for this run.
    pub password: Option<String>,
    /// SHA-256 of the certificate, hexadecimal.
    pub certificate_sha256: String,
    server_id: u32,
    server_uuid: String,
    files: usize,
    first_file: Option<String>,
    bytes: u64,
    /// Files that are archived later are served, too.
    follows: bool,
    /// What a replica must have executed.
    executed_before: GtidSet,
    /// What it has executed in the end.
    executed: GtidSet,
    /// What makes a server a replica.
    statements: Vec<String>,
}

impl Served {
    /// What is served at `listener`. A password is shown only where it was made for this run.
    pub fn new(
        offer: &Offer,
        follows: bool,
        listener: &Listener,
        user: &str,
        password: Option<&str>,
    ) -> Self {
        let steps = offer.steps();
        let files = steps.iter().map(|step| &step.part);
        Self {
            report_version: REPORT_VERSION,
            address: listener.address,
            user: user.to_owned(),
            password: password.map(str::to_owned),
            certificate_sha256: listener.fingerprint().to_owned(),
            server_id: offer.server_id,
            server_uuid: offer.server_uuid.to_string(),
            files: steps.len(),
            first_file: files
                .clone()
                .next()
                .map(|part| part.file.file_name().to_owned()),
            bytes: files.map(crate::part::Part::bytes).sum(),
            follows,
            executed_before: offer.before.clone(),
            executed: offer.executed(),
            statements: statements(listener.address, user, password.unwrap_or("…")),
        }
    }
}

/// Makes a server a replica of what is served, on a channel of its own.
fn statements(address: SocketAddr, user: &str, password: &str) -> Vec<String> {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "THIS MACHINE".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "THIS MACHINE".to_owned(),
        ip => ip.to_string(),
    };
    vec![
        change_source(&host, address.port(), user, password, CHANNEL),
        format!("START REPLICA FOR CHANNEL '{CHANNEL}'"),
    ]
}

/// The statement that names a source, for a channel.
pub fn change_source(host: &str, port: u16, user: &str, password: &str, channel: &str) -> String {
    let [host, user, password] = [host, user, password].map(quoted);
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = {host}, SOURCE_PORT = {port}, SOURCE_USER = {user}, \
         SOURCE_PASSWORD = {password}, SOURCE_SSL = 1, SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, \
         SOURCE_RETRY_COUNT = {RETRIES} \
         FOR CHANNEL '{channel}'"
    )
}

impl Report for Served {
    fn human(&self) -> String {
        let mut text = format!(
            "serving {} files, {}, at {}\n",
            self.files,
            output::bytes(self.bytes),
            self.address
        );
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<16} {}", output::printable(value));
        };
        line("user", &self.user);
        match &self.password {
            Some(password) => line("password", &format!("{password} (for this run)")),
            None => line("password", "as in the file"),
        }
        line(
            "certificate",
            &format!("sha256 {}", self.certificate_sha256),
        );
        line("first file", self.first_file.as_deref().unwrap_or("-"));
        line("begins behind", &output::gtids(&self.executed_before));
        line("ends with", &output::gtids(&self.executed));
        if self.follows {
            line("and then", "what is archived later, as it comes");
        }
        text.push_str("\non the replica:\n");
        for statement in &self.statements {
            let _ = writeln!(text, "  {statement};");
        }
        text
    }
}
