//! Stands between the gateway and a receiver and does what networks and overloaded servers do.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::process::PATIENCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes.
    None,
    /// This status line and these headers instead of the receiver's answer; the receiver gets nothing.
    Answer(&'static str),
    /// Requests are taken and never answered.
    Hang,
    /// The receiver gets the request, but the connection is cut before its answer passes.
    Cut,
}

/// A request is longer than all that gRPC says before it.
const REQUEST_BYTES_MIN: usize = 2_000;

pub struct FaultProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    receiver: String,
    fault: Mutex<Fault>,
    connections: Mutex<Vec<TcpStream>>,
    /// How often the fault was felt since it began.
    felt: AtomicUsize,
}

impl FaultProxy {
    /// Starts one in front of `receiver`, `host:port`.
    pub fn start(receiver: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            receiver: receiver.to_owned(),
            fault: Mutex::new(Fault::None),
            connections: Mutex::default(),
            felt: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(&client));
            }
        });
        Self { address, shared }
    }

    /// Lets this happen from now on, to open connections as well.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        self.shared.felt.store(0, Relaxed);
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _closed = connection.shutdown(Shutdown::Both).is_err();
        }
    }

    /// How many requests have met the present fault.
    pub fn felt(&self) -> usize {
        self.shared.felt.load(Relaxed)
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, client: &TcpStream) {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        self.connections.lock().unwrap().push(client.try_clone().unwrap());
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::None | Fault::Cut => self.pass(client, fault),
            Fault::Answer(answer) => {
                if read_request(client) {
                    self.felt.fetch_add(1, Relaxed);
                    let _gone = { client }.write_all(answer.as_bytes()).is_err();
                }
            }
            Fault::Hang => {
                self.felt.fetch_add(1, Relaxed);
                let mut chunk = [0; 4096];
                while matches!({ client }.read(&mut chunk), Ok(1..)) {}
            }
        }
        let _closed = client.shutdown(Shutdown::Both).is_err();
    }

    fn pass(self: &Arc<Self>, mut client: &TcpStream, fault: Fault) {
        let Ok(mut receiver) = TcpStream::connect(&self.receiver) else { return };
        self.connections.lock().unwrap().push(receiver.try_clone().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let (mut back, mut to_client) = (receiver.try_clone().unwrap(), client.try_clone().unwrap());
        let (shared, sent_before) = (Arc::clone(self), Arc::clone(&sent));
        std::thread::spawn(move || {
            let mut chunk = [0; 16_384];
            while let Ok(read @ 1..) = back.read(&mut chunk) {
                if fault == Fault::Cut && sent_before.load(Relaxed) >= REQUEST_BYTES_MIN {
                    shared.felt.fetch_add(1, Relaxed);
                    break;
                }
                if to_client.write_all(&chunk[..read]).is_err() {
                    break;
                }
            }
            let _closed = to_client.shutdown(Shutdown::Both).is_err();
        });
        let mut chunk = [0; 16_384];
        while let Ok(read @ 1..) = client.read(&mut chunk) {
            sent.fetch_add(read, Relaxed);
            if receiver.write_all(&chunk[..read]).is_err() {
                break;
            }
        }
        let _closed = receiver.shutdown(Shutdown::Both).is_err();
    }
}

/// Reads one request over HTTP/1.1; false if the connection ended before.
fn read_request(mut client: &TcpStream) -> bool {
    let (mut read, mut chunk) = (Vec::new(), [0; 16_384]);
    loop {
        let Ok(length @ 1..) = client.read(&mut chunk) else { return false };
        read.extend_from_slice(&chunk[..length]);
        let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
        let body = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        if read.len() >= head + 4 + body.unwrap_or(0) {
            return true;
        }
    }
}
