//! Where a MySQL server is: `mysql://user@host:port`, or `mysql://user@localhost?socket=/run/mysqld/mysqld.sock`.
//!
//! Behind `?` may stand `socket`, `ssl-mode` (as `--ssl-mode` of MySQL's clients, whose default it has: `PREFERRED`) and
//! `ssl-ca`. A password never: an address stands in configurations, command lines and messages.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

/// Where a server is, and as whom to log in. What it does not say, the client's option files do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    user: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    socket: Option<PathBuf>,
    ssl_mode: Option<SslMode>,
    ssl_ca: Option<PathBuf>,
}

/// What a connection over TCP must be, in the words of MySQL's clients (`--ssl-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disabled,
    /// Encrypted where the server can.
    Preferred,
    /// Encrypted, with whoever answers.
    Required,
    /// And the server's certificate is one of `ssl-ca`.
    VerifyCa,
    /// And it is this host's.
    VerifyIdentity,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of the form.
    #[error("write mysql://USER@HOST:PORT, or mysql://USER@localhost?socket=PATH")]
    Syntax,
    /// Something else behind `?`.
    #[error("{0:?}: behind ? may stand socket, ssl-mode and ssl-ca")]
    Parameter(String),
    /// Not one of the client's words.
    #[error("ssl-mode is DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY, not {0:?}")]
    SslMode(String),
    /// A secret where others can read it.
    #[error("an address is shown in messages and process lists: the password belongs into a file")]
    Password,
}

impl Address {
    /// The server that listens on a socket of this machine.
    pub fn of_socket(user: &str, socket: impl Into<PathBuf>) -> Self {
        Self {
            user: Some(user.to_owned()),
            host: None,
            port: None,
            socket: Some(socket.into()),
            ..Self::default()
        }
    }

    /// As whom to log in.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A name or an IP address, without brackets.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The TCP port.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// A socket of this machine, which goes before host and port.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// How a TCP connection is secured.
    pub fn ssl_mode(&self) -> Option<SslMode> {
        self.ssl_mode
    }

    /// The certificates that the server's is checked with.
    pub fn ssl_ca(&self) -> Option<&Path> {
        self.ssl_ca.as_deref()
    }

    /// The options of MySQL's clients.
    pub fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        let user = self.user.as_ref().map(|user| format!("--user={user}"));
        options.extend(user);
        if let Some(socket) = &self.socket {
            options.push(format!("--socket={}", socket.display()));
            return options;
        }
        options.extend(self.host.as_ref().map(|host| format!("--host={host}")));
        if let Some(port) = self.port {
            options.push(format!("--port={port}"));
            // To the client, localhost is a socket, whatever port is named.
            options.push("--protocol=TCP".to_owned());
        }
        if let Some(mode) = self.ssl_mode {
            options.push(format!("--ssl-mode={}", mode.name()));
        }
        let ca = self.ssl_ca.as_ref();
        options.extend(ca.map(|ca| format!("--ssl-ca={}", ca.display())));
        options
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::Syntax)?;
        if url.scheme() != "mysql" || !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(AddressError::Syntax);
        }
        if url.password().is_some() {
            return Err(AddressError::Password);
        }
        let (mut socket, mut ssl_mode, mut ssl_ca) = (None, None, None);
        for (name, value) in url.query_pairs() {
            if value.is_empty() {
                return Err(AddressError::Parameter(name.into_owned()));
            }
            match &*name {
                "socket" => socket = Some(PathBuf::from(value.into_owned())),
                "ssl-ca" => ssl_ca = Some(PathBuf::from(value.into_owned())),
                "ssl-mode" => ssl_mode = Some(value.parse()?),
                _ => return Err(AddressError::Parameter(name.into_owned())),
            }
        }
        let user = percent_decode_str(url.username()).decode_utf8();
        let user = user.map_err(|_| AddressError::Syntax)?;
        let host = url.host_str().filter(|host| !host.is_empty());
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let host = host.map(|host| host.trim_matches(['[', ']']).to_owned());
        Ok(Self {
            user: (!user.is_empty()).then(|| user.into_owned()),
            host,
            port: url.port(),
            socket,
            ssl_mode,
            ssl_ca,
        })
    }
}

impl SslMode {
    const ALL: [Self; 5] = [
        Self::Disabled,
        Self::Preferred,
        Self::Required,
        Self::VerifyCa,
        Self::VerifyIdentity,
    ];

    /// The client's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Preferred => "PREFERRED",
            Self::Required => "REQUIRED",
            Self::VerifyCa => "VERIFY_CA",
            Self::VerifyIdentity => "VERIFY_IDENTITY",
        }
    }
}

impl FromStr for SslMode {
    type Err = AddressError;

    /// In small letters too, as the client takes it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut all = Self::ALL.into_iter();
        all.find(|mode| mode.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| AddressError::SslMode(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(socket) = &self.socket {
            return write!(f, "{}", socket.display());
        }
        f.write_str(self.host.as_deref().unwrap_or("localhost"))?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        text.parse::<Address>().unwrap().options()
    }

    #[test]
    fn an_address_becomes_the_clients_options() {
        assert_eq!(
            options("mysql://restore@db1.example.net:3307"),
            [
                "--user=restore",
                "--host=db1.example.net",
                "--port=3307",
                "--protocol=TCP"
            ]
        );
        assert_eq!(options("mysql://db1"), ["--host=db1"]);
        assert_eq!(options("mysql://[::1]:3306")[0], "--host=::1");
        assert_eq!(
            options("mysql://a%40b@localhost?socket=/run/my%20sql.sock"),
            ["--user=a@b", "--socket=/run/my sql.sock"]
        );
        assert_eq!(
            options("mysql://db1?ssl-mode=verify_ca&ssl-ca=/etc/mysql/ca.pem"),
            [
                "--host=db1",
                "--ssl-mode=VERIFY_CA",
                "--ssl-ca=/etc/mysql/ca.pem"
            ]
        );
    }

    #[test]
    fn a_password_on_the_command_line_is_refused() {
        let refused = "mysql://root:secret@db1".parse::<Address>();
        assert_eq!(refused, Err(AddressError::Password));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["db1", "http://db1", "mysql://db1/shop"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Syntax), "{text}");
        }
        for (text, name) in [
            ("mysql://db1?ssl=1", "ssl"),
            ("mysql://h?socket=", "socket"),
        ] {
            let refused = Err(AddressError::Parameter(name.to_owned()));
            assert_eq!(text.parse::<Address>(), refused, "{text}");
        }
        let refused = Err(AddressError::SslMode("yes".to_owned()));
        assert_eq!("mysql://h?ssl-mode=yes".parse::<Address>(), refused);
    }
}
