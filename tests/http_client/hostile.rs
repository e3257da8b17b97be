//! What a hostile or careless server can do, and what it costs.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tollgate::http_client::{Error, Origin, Pool, Request, RequestHead, Sent, TlsFiles};

use crate::{
    run,
    server::{Server, read_request},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Client {
    origin: Origin,
    pool: Pool,
}

impl Client {
    fn of(server: &Server) -> Self {
        let origin = Origin::new(false, "127.0.0.1", server.address.port()).unwrap();
        Self { origin, pool: Pool::new(TlsFiles::default()) }
    }

    fn request(&self, body: Bytes) -> Request {
        RequestHead::post(&"/".parse().unwrap(), &self.origin).finish(body)
    }

    async fn send(&self, body: Bytes) -> Result<Sent, Error> {
        self.pool
            .send(&self.origin, crate::LIMITS, &self.request(body), |_| true, Instant::now(), crate::LIMITS.connect)
            .await
    }

    /// The whole body, or what went wrong, and whether a connection was opened for it.
    async fn body(&self) -> Result<(Vec<u8>, bool), Error> {
        let sent = self.send(Bytes::from_static(b"{}")).await?;
        let (mut body, mut read) = (sent.response.body, Vec::new());
        while let Some(data) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
            read.extend_from_slice(&data?);
        }
        Ok((read, sent.opened))
    }
}

/// Answers every request of a connection with these bytes.
fn always(bytes: Vec<u8>) -> Server {
    Server::with(move |socket| while read_request(socket) && socket.write_all(&bytes).is_ok() {})
}

#[test]
fn a_good_connection_is_used_again_and_again() {
    for answer in [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        let server = always(answer.to_vec());
        let client = Client::of(&server);
        run(async {
            for number in 0..5 {
                assert_eq!(client.body().await.unwrap(), (b"ok".to_vec(), number == 0));
            }
        });
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn bytes_behind_a_response_belong_to_no_request() {
    // A second response that nobody asked for: sent with the first, it must not answer the next.
    let poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
    for answer in [OK, chunked, empty] {
        let expected = if answer == empty { b"".to_vec() } else { b"ok".to_vec() };
        for pause in [Duration::ZERO, Duration::from_millis(30)] {
            let server = Server::with(move |socket: &mut TcpStream| {
                while read_request(socket) {
                    if pause.is_zero() {
                        let _sent = socket.write_all(&[answer, poison.as_slice()].concat()).is_ok();
                    } else {
                        let _sent = socket.write_all(answer).is_ok();
                        std::thread::sleep(pause);
                        let _sent = socket.write_all(poison).is_ok();
                    }
                }
            });
            let client = Client::of(&server);
            run(async {
                for _ in 0..3 {
                    assert_eq!(client.body().await.unwrap(), (expected.clone(), true));
                    tokio::time::sleep(pause * 3).await;
                }
            });
            assert_eq!(server.connections(), 3);
        }
    }
}

#[test]
fn what_is_large_without_need_is_refused() {
    let line = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    let rows: Vec<(&str, String, &str)> = vec![
        (
            "a chunk extension of 1 MB",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;{}\r\nok\r\n0\r\n\r\n",
                "x".repeat(1 << 20)
            ),
            "extensions",
        ),
        (
            "a trailer of 1 MB",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{}\r\n", line(1 << 20)),
            "trailers",
        ),
        ("a header of 1 MB", format!("HTTP/1.1 200 OK\r\n{}\r\n", line(1 << 20)), "65536 bytes"),
        ("a head of 70 lines of 1 KB", format!("HTTP/1.1 200 OK\r\n{}\r\n", line(1_000).repeat(70)), "65536 bytes"),
        ("a head of 101 lines", format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101)), "too many headers"),
        ("a head without end", format!("HTTP/1.1 200 OK\r\n{}", "X".repeat(1 << 20)), "65536 bytes"),
        ("1xx for ever", "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000), "1xx"),
        (
            "zeros before a size",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}2\r\nok\r\n0\r\n\r\n", "0".repeat(1 << 20)),
            "extensions",
        ),
    ];
    for (name, bytes, why) in rows {
        let server = always(bytes.into_bytes());
        let error = run(Client::of(&server).body()).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_arrives_and_its_connection_is_not_used_again() {
    // Answers after the first bytes and reads no further, as a server does that refuses the size.
    let server = Server::with(|socket: &mut TcpStream| {
        use std::io::Read as _;
        let mut some = [0; 1_000];
        if matches!(socket.read(&mut some), Ok(1..)) {
            socket.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").unwrap();
        }
    });
    let client = Client::of(&server);
    run(async {
        for _ in 0..2 {
            let sent = client.send(Bytes::from(vec![b'x'; 16 << 20])).await.unwrap();
            assert!(sent.opened);
            let (status, mut body) = (sent.response.status, sent.response.body);
            assert_eq!(status, 413);
            let data = std::future::poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap();
            assert_eq!(&*data, b"no");
        }
    });
}

#[test]
fn a_response_that_ends_at_any_byte_is_no_response() {
    for response in
        [OK.to_vec(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: r\r\n\r\n".to_vec()]
    {
        for end in 0..response.len() {
            let part = response[..end].to_vec();
            let server = Server::with(move |socket| {
                if read_request(socket) {
                    socket.write_all(&part).unwrap();
                }
            });
            assert!(run(Client::of(&server).body()).is_err(), "after {end} bytes");
        }
    }
}

#[test]
fn a_connection_that_was_closed_while_idle_costs_nothing_and_a_request_goes_out_once() {
    let server = Server::with(|socket| {
        if read_request(socket) {
            socket.write_all(OK).unwrap();
        }
    });
    let client = Client::of(&server);
    run(async {
        for _ in 0..5 {
            let request = client.request(Bytes::from_static(b"{}"));
            let sent = client
                .pool
                .send(&client.origin, crate::LIMITS, &request, |_| true, Instant::now(), crate::LIMITS.connect)
                .await
                .unwrap();
            let mut body = sent.response.body;
            while let Some(data) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
                data.unwrap();
            }
            assert!(request.sends() <= 2);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn large_bodies_go_both_ways_byte_for_byte() {
    let large: Vec<u8> = (0..4_u32 << 20).map(|number| ((number * 31) >> 3) as u8).collect();
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", large.len()).into_bytes();
    answer.extend_from_slice(&large);
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for part in large.chunks(70_001) {
        chunked.extend(format!("{:X}\r\n", part.len()).into_bytes());
        chunked.extend_from_slice(part);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    for answer in [answer, chunked] {
        let server = always(answer);
        let client = Client::of(&server);
        run(async {
            for _ in 0..2 {
                let sent = client.send(Bytes::from(large.clone())).await.unwrap();
                let (mut body, mut read) = (sent.response.body, Vec::new());
                while let Some(data) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
                    read.extend_from_slice(&data.unwrap());
                }
                assert!(read == large);
            }
        });
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn a_body_that_is_dropped_closes_its_connection() {
    let server = Server::with(|socket| {
        if read_request(socket) {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome").unwrap();
            // Ends when the client hangs up.
            let mut nothing = [0; 1];
            while matches!(std::io::Read::read(socket, &mut nothing), Ok(1..)) {}
        }
    });
    let client = Client::of(&server);
    run(async {
        drop(client.send(Bytes::from_static(b"{}")).await.unwrap());
        assert!(client.send(Bytes::from_static(b"{}")).await.unwrap().opened);
    });
    assert_eq!(server.connections(), 2);
}
