//! Our HTTP/1.1 client beside hyper's: the same bytes from the same server, the same verdict or a
//! stricter one for a reason that the row states; and what a hostile server can do to it.

#![cfg(test)]

mod corpus;
mod hostile;
mod server;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::LocalSet};
use tollgate::http_client::{Limits, Origin, Pool, RequestHead, TlsFiles};

use corpus::{CORPUS, Verdict};
use server::Server;

const LIMITS: Limits = Limits::connecting(Duration::from_secs(5), Duration::from_secs(2));

/// What a client made of a response: its status and body, or that it refused.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Whole(u16, Vec<u8>),
    Refused,
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
    })
}

async fn ours(server: &Server) -> Outcome {
    let origin = Origin::new(false, "127.0.0.1", server.address.port()).unwrap();
    let pool = Pool::new(TlsFiles::default());
    let head = RequestHead::post(&"/".parse().unwrap(), &origin);
    let request = head.finish(Bytes::from_static(b"{}"));
    let Ok(sent) = pool.send(&origin, LIMITS, &request, |_| true, Instant::now(), LIMITS.connect).await else {
        return Outcome::Refused;
    };
    let (status, mut body) = (sent.response.status, sent.response.body);
    let mut read = Vec::new();
    loop {
        match std::future::poll_fn(|cx| body.poll_data(cx)).await {
            None => return Outcome::Whole(status.as_u16(), read),
            Some(Ok(data)) => read.extend_from_slice(&data),
            Some(Err(_)) => return Outcome::Refused,
        }
    }
}

async fn theirs(server: &Server) -> Outcome {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    let request = Request::post("/").header(HOST, "h").body(Full::new(Bytes::from_static(b"{}"))).unwrap();
    let Ok(response) = sender.send_request(request).await else { return Outcome::Refused };
    let status = response.status().as_u16();
    let (mut body, mut read) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => read.extend_from_slice(&data),
            Ok(Err(_trailers)) => {}
            Err(_) => return Outcome::Refused,
        }
    }
    Outcome::Whole(status, read)
}

#[test]
fn every_response_is_read_as_hyper_reads_it_or_refused_for_a_reason() {
    assert!(CORPUS.len() >= 60, "{}", CORPUS.len());
    let mut wrong = Vec::new();
    for (bytes, verdict) in CORPUS {
        for pieces in [usize::MAX, 1, 7] {
            let server = Server::answering(bytes, pieces);
            let (ours, theirs) = run(async { (ours(&server).await, theirs(&server).await) });
            let is_right = match verdict {
                Verdict::Body(status, body) => {
                    let expected = Outcome::Whole(*status, body.as_bytes().to_vec());
                    ours == expected && theirs == expected
                }
                Verdict::Refused => ours == Outcome::Refused && theirs == Outcome::Refused,
                Verdict::Stricter(why) => {
                    assert!(!why.is_empty());
                    ours == Outcome::Refused && theirs != Outcome::Refused
                }
            };
            if !is_right {
                wrong.push(format!(
                    "{bytes:?} in pieces of {pieces}\n  ours   {ours:?}\n  theirs {theirs:?}\n  expected {verdict:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
