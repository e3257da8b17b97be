//! Listening sockets that a supervisor such as systemd holds and hands over (sd_listen_fds(3)): they stay
//! open while the service restarts, so that nobody is refused meanwhile.

use std::{io, net::TcpListener, os::unix::net::UnixListener, path::Path};

use listenfd::ListenFd;

use super::listener::Listener;
use crate::config::Listen;

/// Sockets that take the place of `server.listen`.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(Listener, Listen)>);

impl Inherited {
    /// Takes what was handed over to this process, or says why it is of no use.
    pub fn take() -> Result<Self, String> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::with_capacity(handed.len());
        for index in 0..handed.len() {
            let wrong = |error: io::Error| format!("socket {index} of $LISTEN_FDS cannot be listened on: {error}");
            // One of another kind goes back to where it was.
            if let Ok(Some(socket)) = handed.take_tcp_listener(index) {
                sockets.push(tcp(socket).map_err(wrong)?);
            } else if let Some(socket) = handed.take_unix_listener(index).map_err(wrong)? {
                sockets.push(unix(socket).map_err(wrong)?);
            }
        }
        Ok(Self(sockets))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_sockets(self) -> Vec<(Listener, Listen)> {
        self.0
    }
}

fn tcp(socket: TcpListener) -> io::Result<(Listener, Listen)> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((Listener::Tcp(socket), Listen::Tcp(address)))
}

fn unix(socket: UnixListener) -> io::Result<(Listener, Listen)> {
    socket.set_nonblocking(true)?;
    let path = socket.local_addr()?.as_pathname().unwrap_or(Path::new("")).to_owned();
    Ok((Listener::Unix(socket), Listen::Unix(path)))
}
