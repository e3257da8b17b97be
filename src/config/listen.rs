//! A place to listen on: an address and port, or a socket in the file system.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// Longest path of a unix socket, in bytes: what `sockaddr_un` has room for, less the zero behind it.
const UNIX_PATH_MAX: usize = 107;

/// One place to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for Listen {
    type Err = String;

    /// `"127.0.0.1:4000"` or `"unix:/run/tollgate/socket"`.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            let wrong = |_| {
                format!(
                    "{text:?} is not an address and port, such as \"127.0.0.1:4000\" or \"[::]:4000\", nor \
                     \"unix:/path/to/socket\""
                )
            };
            return text.parse().map(Self::Tcp).map_err(wrong);
        };
        if !path.starts_with('/') || path.contains('\0') {
            return Err(format!("{text:?} has no absolute path, such as \"unix:/run/tollgate/socket\""));
        }
        if path.len() > UNIX_PATH_MAX {
            let length = path.len();
            return Err(format!("the path of a unix socket has at most {UNIX_PATH_MAX} bytes; this one has {length}"));
        }
        Ok(Self::Unix(path.into()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_can_reach_is_known() {
        for (text, is_local) in [
            ("127.0.0.1:1", true),
            ("127.9.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
            ("unix:/run/t.sock", true),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.to_string().as_str(), listen.is_local()), (text, is_local));
        }
    }
}
