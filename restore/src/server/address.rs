//! Where a server is: `mysql://user@host:port`, or `mysql://user@localhost?socket=/run/mysqld/mysqld.sock`.

use std::fmt;
use std::path::PathBuf;
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
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of the form.
    #[error("write mysql://USER@HOST:PORT, or mysql://USER@localhost?socket=PATH")]
    Syntax,
    /// A secret where every user of the machine can read it.
    #[error(
        "a password on a command line can be read by every user of the machine: put it into an option file of the client"
    )]
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
        }
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
        let mut socket = None;
        for (name, value) in url.query_pairs() {
            if name != "socket" || value.is_empty() {
                return Err(AddressError::Syntax);
            }
            socket = Some(PathBuf::from(value.into_owned()));
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
        })
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
    }

    #[test]
    fn a_password_on_the_command_line_is_refused() {
        let refused = "mysql://root:secret@db1".parse::<Address>();
        assert_eq!(refused, Err(AddressError::Password));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "db1",
            "http://db1",
            "mysql://db1/shop",
            "mysql://db1?ssl=1",
            "mysql://h?socket=",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Syntax), "{text}");
        }
    }
}
