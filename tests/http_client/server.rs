//! A server that answers every request with the same bytes, right or wrong.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Answers with these bytes, in writes of at most `pieces`, and closes.
    pub(crate) fn answering(bytes: &str, pieces: usize) -> Self {
        let bytes = bytes.as_bytes().to_vec();
        Self::with(move |socket| {
            if read_request(socket) {
                for piece in bytes.chunks(pieces.min(bytes.len().max(1))) {
                    if socket.write_all(piece).is_err() {
                        return;
                    }
                }
            }
        })
    }

    /// Does this with each connection.
    pub(crate) fn with(serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (serve, counted) = (Arc::new(serve), Arc::clone(&connections));
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Relaxed);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    socket.set_nodelay(true).unwrap();
                    serve(&mut socket);
                    // What is unread would turn the end into a reset.
                    let _closed = socket.shutdown(Shutdown::Write).is_err();
                    let mut rest = [0; 4096];
                    while matches!(socket.read(&mut rest), Ok(1..)) {}
                });
            }
        });
        Self { address, connections }
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

/// Reads a request with a length; false if there is none.
pub(crate) fn read_request(socket: &mut TcpStream) -> bool {
    let (mut read, mut chunk) = (Vec::new(), [0; 65_536]);
    loop {
        let Ok(length @ 1..) = socket.read(&mut chunk) else { return false };
        read.extend_from_slice(&chunk[..length]);
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if read.len() >= end + 4 + length.unwrap_or(0) {
            return true;
        }
    }
}
