//! An HTTP/1.1 server that keeps what it is sent and answers as it is told, with TLS or without.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(20);

/// A request: its head as text, its body as bytes.
pub(crate) struct Captured {
    pub head: String,
    pub body: Vec<u8>,
}

pub(crate) struct Capture {
    address: SocketAddr,
    requests: mpsc::Receiver<Captured>,
}

trait Socket: Read + Write {}
impl<T: Read + Write> Socket for T {}

impl Capture {
    /// Gives these answers in turn, each on a connection of its own, and empty successes after them.
    pub(crate) fn start(tls: Option<ServerConfig>, answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (send, requests) = mpsc::channel();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let tls = tls.map(Arc::new);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let Some(request) = serve(socket, tls.as_ref(), &answers) else { continue };
                if send.send(request).is_err() {
                    return;
                }
            }
        });
        Self { address, requests }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request.
    pub(crate) fn request(&self) -> Captured {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    /// Whether there was a request that nobody has asked for.
    pub(crate) fn has_more(&self) -> bool {
        self.requests.try_recv().is_ok()
    }
}

fn serve(socket: TcpStream, tls: Option<&Arc<ServerConfig>>, answers: &Mutex<VecDeque<String>>) -> Option<Captured> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream: Box<dyn Socket> = match tls {
        None => Box::new(socket),
        Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(tls)).unwrap(), socket)),
    };
    let mut read = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        // A client that is not trusted, or that does not trust, ends the handshake here.
        let length = stream.read(&mut chunk).ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&chunk[..length]);
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        let body = &read[end + 4..];
        if body.len() < length {
            continue;
        }
        let empty = || "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
        let answer = answers.lock().unwrap().pop_front().unwrap_or_else(empty);
        stream.write_all(answer.as_bytes()).ok()?;
        stream.flush().ok()?;
        return Some(Captured { head, body: body.to_vec() });
    }
}

/// A whole answer that ends its connection.
pub(crate) fn answer(status: &str, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
