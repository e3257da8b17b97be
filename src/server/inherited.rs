//! Listening sockets that a supervisor such as systemd holds and hands over (sd_listen_fds(3)): they stay
//! open while the service restarts, so that nobody is refused meanwhile.

use std::{io, net::TcpListener, os::unix::net::UnixListener, path::Path};

use listenfd::ListenFd;

use super::listener::Listener;
use crate::config::{Environment, Listen};

/// What a socket is named (`FileDescriptorName=`) that is not for clients.
const ADMIN: &str = "admin";

/// Sockets that take the place of `server.listen` and of `admin.listen`.
#[derive(Debug, Default)]
pub struct Inherited {
    public: Vec<(Listener, Listen)>,
    admin: Option<socket2::Socket>,
}

impl Inherited {
    /// Takes what was handed over to this process, or says why it is of no use.
    pub fn take(environment: &Environment) -> Result<Self, String> {
        let names = environment.get("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut inherited = Self { public: Vec::with_capacity(handed.len()), admin: None };
        for index in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            let wrong = |why: &str| {
                format!("socket {index} of $LISTEN_FDS ({name:?} in $LISTEN_FDNAMES) cannot be listened on: {why}")
            };
            let unusable = |error: io::Error| wrong(&error.to_string());
            // One of another kind goes back to where it was.
            let socket: socket2::Socket = if let Ok(Some(socket)) = handed.take_tcp_listener(index) {
                socket.into()
            } else if let Ok(Some(socket)) = handed.take_unix_listener(index) {
                socket.into()
            } else {
                return Err(wrong(
                    "it is no stream socket of TCP or of the file system; see ListenStream= of its unit",
                ));
            };
            if !socket.is_listener().map_err(unusable)? {
                return Err(wrong("it is a connection; its unit has to have Accept=no"));
            }
            socket.set_nonblocking(true).map_err(unusable)?;
            if name != ADMIN {
                inherited.public.push(public(socket).map_err(unusable)?);
            } else if inherited.admin.replace(socket).is_some() {
                return Err(wrong("there is one for the admin listener already"));
            }
        }
        Ok(inherited)
    }

    /// The one for the admin listener.
    pub fn take_admin(&mut self) -> Option<socket2::Socket> {
        self.admin.take()
    }

    /// Whether none takes the place of `server.listen`.
    pub(super) fn is_empty(&self) -> bool {
        self.public.is_empty()
    }

    pub(super) fn into_sockets(self) -> Vec<(Listener, Listen)> {
        self.public
    }
}

fn public(socket: socket2::Socket) -> io::Result<(Listener, Listen)> {
    let address = socket.local_addr()?;
    Ok(match address.as_socket() {
        Some(address) => (Listener::Tcp(TcpListener::from(socket)), Listen::Tcp(address)),
        None => {
            let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
            (Listener::Unix(UnixListener::from(socket)), Listen::Unix(path))
        }
    })
}
