//! Listening: the sockets that clients connect to, of which every worker has its own.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    task::{Context, Poll},
};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Type};

use super::{inherited::Inherited, socket::Socket};
use crate::{
    config::{self, Listen},
    message,
};

/// Connections the kernel keeps for us to accept.
const BACKLOG: i32 = 4096;

/// A socket that is listened on.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Everything that is listened on.
#[derive(Debug)]
pub(super) struct Bound {
    /// For each worker.
    pub(super) listeners: Vec<Vec<Listener>>,
    /// With the ports that were found.
    pub(super) places: Vec<Listen>,
}

/// What may wait for a client that takes nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Bytes in the kernel, besides those that are on their way.
    pub(super) unsent: u32,
    /// Milliseconds.
    pub(super) timeout: u32,
}

/// Binds all places, once for each worker, or says which could not be bound.
pub(super) fn bind(settings: &config::Server, inherited: Inherited) -> Result<Bound, String> {
    let workers = settings.threads.max(1);
    let mut listeners: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::with_capacity(settings.listen.len())).collect();
    let waiting = Waiting {
        unsent: settings.send_buffer,
        timeout: u32::try_from(settings.write_timeout.as_millis()).unwrap_or(u32::MAX),
    };
    let mut places = Vec::with_capacity(settings.listen.len());
    let configured = if inherited.is_empty() { settings.listen.as_slice() } else { &[] };
    for (socket, place) in inherited.into_sockets() {
        share(&socket, waiting, &mut listeners).map_err(|error| format!("cannot listen on {place}: {error}"))?;
        places.push(place);
    }
    for place in configured {
        let bound = match place {
            Listen::Tcp(address) => bind_tcp(*address, waiting, &mut listeners).map(Listen::Tcp),
            Listen::Unix(path) => bind_unix(path, settings.unix_mode, &mut listeners).map(|()| place.clone()),
        };
        places.push(bound.map_err(|error| format!("cannot listen on {place}: {error}"))?);
    }
    Ok(Bound { listeners, places })
}

/// Has all workers accept from one socket.
fn share(socket: &Listener, waiting: Waiting, listeners: &mut [Vec<Listener>]) -> io::Result<()> {
    if let Listener::Tcp(socket) = socket {
        bound_waiting(socket, waiting)?;
    }
    for of_worker in listeners {
        of_worker.push(match socket {
            Listener::Tcp(socket) => Listener::Tcp(socket.try_clone()?),
            Listener::Unix(socket) => Listener::Unix(socket.try_clone()?),
        });
    }
    Ok(())
}

fn bind_tcp(mut address: SocketAddr, waiting: Waiting, listeners: &mut [Vec<Listener>]) -> io::Result<SocketAddr> {
    for of_worker in listeners {
        let listener = tcp(address, waiting)?;
        // With port 0 the first listener finds out the port for all.
        address = listener.local_addr()?;
        of_worker.push(Listener::Tcp(listener));
    }
    Ok(address)
}

/// One of several listeners on the same address.
pub(super) fn tcp(address: SocketAddr, waiting: Waiting) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let socket = TcpListener::from(socket);
    bound_waiting(&socket, waiting)?;
    socket2::SockRef::from(&socket).listen(BACKLOG)?;
    Ok(socket)
}

/// Bounds what a client that takes nothing of its answer can hold, and for how long; connections inherit
/// it from the socket that they come in on.
fn bound_waiting(socket: &TcpListener, waiting: Waiting) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(waiting.unsent)?;
    // A client that is gone without a word is given up as soon as one that does not read.
    Ok(sockopt::set_tcp_user_timeout(socket, waiting.timeout)?)
}

/// One socket that all workers accept from.
fn bind_unix(path: &Path, mode: u32, listeners: &mut [Vec<Listener>]) -> io::Result<()> {
    let listener = message::listen_at(path, mode)?;
    for of_worker in listeners {
        of_worker.push(Listener::Unix(listener.try_clone()?));
    }
    Ok(())
}

/// The files of unix sockets, removed when the server ends.
#[derive(Debug)]
pub(super) struct Files(Vec<PathBuf>);

impl Files {
    pub(super) fn of(places: &[Listen]) -> Self {
        let unix = |place: &Listen| match place {
            Listen::Unix(path) => Some(path.clone()),
            Listen::Tcp(_) => None,
        };
        Self(places.iter().filter_map(unix).collect())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, path = %path.display(), "the socket file could not be removed");
            }
        }
    }
}

/// The listeners of one worker, at work.
#[derive(Debug)]
pub(super) struct Listeners {
    all: Vec<AsyncListener>,
    /// Where the next look begins, so that no listener starves another.
    next: usize,
}

#[derive(Debug)]
enum AsyncListener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Listeners {
    /// Has to be called inside a runtime.
    pub(super) fn new(listeners: Vec<Listener>) -> io::Result<Self> {
        let start = |listener| match listener {
            Listener::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(AsyncListener::Tcp),
            Listener::Unix(listener) => tokio::net::UnixListener::from_std(listener).map(AsyncListener::Unix),
        };
        Ok(Self { all: listeners.into_iter().map(start).collect::<io::Result<_>>()?, next: 0 })
    }

    /// The next connection, and the address of its client if it has one.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        for _ in 0..self.all.len() {
            self.next = (self.next + 1) % self.all.len();
            let accepted = match self.all.get(self.next) {
                Some(AsyncListener::Tcp(listener)) => listener.poll_accept(cx).map_ok(|(socket, address)| {
                    if let Err(error) = socket.set_nodelay(true) {
                        tracing::debug!(%error, "the client left before it was served");
                    }
                    (socket.into(), Some(address))
                }),
                Some(AsyncListener::Unix(listener)) => {
                    listener.poll_accept(cx).map_ok(|(socket, _)| (socket.into(), None))
                }
                None => Poll::Pending,
            };
            if accepted.is_ready() {
                return accepted;
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    const WAITING: Waiting = Waiting { unsent: 100_000, timeout: 30_000 };

    #[test]
    fn connections_inherit_the_same_bounds_however_their_socket_came_to_be() {
        let inherited = Listener::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
        let mut of_workers = [Vec::new(), Vec::new()];
        share(&inherited, WAITING, &mut of_workers).unwrap();
        bind_tcp("127.0.0.1:0".parse().unwrap(), WAITING, &mut of_workers[1..]).unwrap();
        let mut seen = 0;
        for listener in of_workers.iter().flatten() {
            let Listener::Tcp(listener) = listener else { panic!("{listener:?}") };
            listener.set_nonblocking(false).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), WAITING.unsent);
            assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), WAITING.timeout);
            drop(client);
            seen += 1;
        }
        assert_eq!(seen, 3);
    }
}
