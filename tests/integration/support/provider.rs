//! A provider that does what its script says, byte for byte.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use super::PATIENCE;

/// One thing a provider does after it has read a request.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends bytes in one write.
    Send(Vec<u8>),
    /// Sends bytes one TCP segment each.
    SendBytewise(Vec<u8>),
    /// Does nothing for a while.
    Pause(Duration),
    /// Does nothing until the gateway closes the connection.
    AwaitClose,
    /// Closes the connection.
    Close,
    /// Closes it with a reset.
    Reset,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find(|line| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name)))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

/// A scripted provider on a port of its own.
#[derive(Debug, Clone)]
pub struct Provider {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    scripts: Vec<Vec<Step>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    /// When the gateway closed a connection during [`Step::AwaitClose`].
    closed: Mutex<Vec<Instant>>,
}

impl Provider {
    /// Answers the n-th request with the n-th script; the last script repeats.
    pub fn script(scripts: impl Into<Vec<Vec<Step>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            scripts: scripts.into(),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: Mutex::default(),
        });
        let provider = Self { address: listener.local_addr().unwrap(), state: Arc::clone(&state) };
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (Ok(socket), state) = (socket, Arc::clone(&state)) else { break };
                state.connections.fetch_add(1, SeqCst);
                thread::spawn(move || serve(socket, &state));
            }
        });
        provider
    }

    /// Answers every request with the same bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::script([vec![Step::Send(answer.into())]])
    }

    /// An address where nothing listens.
    pub fn absent() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// When the gateway closed connections that waited for it.
    pub fn closed(&self) -> Vec<Instant> {
        self.state.closed.lock().unwrap().clone()
    }
}

fn serve(mut socket: TcpStream, state: &State) {
    socket.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut buffer) {
        let number = {
            let mut received = state.received.lock().unwrap();
            received.push(request);
            received.len() - 1
        };
        let script = &state.scripts[number.min(state.scripts.len() - 1)];
        for step in script {
            let sent = match step {
                Step::Send(bytes) => socket.write_all(bytes),
                Step::SendBytewise(bytes) => bytes.iter().try_for_each(|byte| {
                    // A pause lets the byte leave alone; without it the kernel may join them.
                    thread::sleep(Duration::from_micros(50));
                    socket.write_all(&[*byte])
                }),
                Step::Pause(pause) => {
                    thread::sleep(*pause);
                    Ok(())
                }
                Step::AwaitClose => {
                    await_close(&mut socket);
                    state.closed.lock().unwrap().push(Instant::now());
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

fn await_close(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    match socket.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("the gateway did not close the connection: {other:?}"),
    }
}

fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let mut chunk = [0; 65536];
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let mut request = Received { head, body: Vec::new() };
            let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
            while buffer.len() < end + 4 + length {
                match socket.read(&mut chunk) {
                    Ok(0) | Err(_) => return None,
                    Ok(read) => buffer.extend_from_slice(&chunk[..read]),
                }
            }
            request.body = buffer[end + 4..end + 4 + length].to_vec();
            buffer.drain(..end + 4 + length);
            return Some(request);
        }
        match socket.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
    }
}

/// A JSON answer with its length.
pub fn json(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// The head of a stream of events in chunks.
pub fn event_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
}

/// One chunk of a chunked body.
pub fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A whole stream: head, one chunk per event, end.
pub fn event_stream(events: &[&str]) -> Vec<u8> {
    let mut answer = event_head();
    for event in events {
        answer.extend(chunk(event));
    }
    answer.extend_from_slice(LAST_CHUNK);
    answer
}
