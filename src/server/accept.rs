//! Accepting: from a listener to a task of its own for every connection.

use std::{future::poll_fn, io, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{MissedTickBehavior, error::Elapsed},
};

use super::{
    Certificates, Phase, Shared,
    connection::{self, Client},
    governor::Pressure,
    guard::{Guard, Permit},
    http2,
    listener::{Listener, Listeners},
    open::Open,
    socket::Socket,
    tls,
};
use crate::{
    config,
    http_client::SWEEP_INTERVAL,
    message::Tcp,
    proxy::{Freed, Worker},
    sys,
    telemetry::{
        dimensions::{ConnectionTimeout, Rejection, Scheme},
        instruments::ServerInstruments,
    },
};

/// From one look at a preface that has come in part to the next.
const PEEK_PAUSE: Duration = Duration::from_millis(10);

/// Accepts until the shutdown, then waits for the connections that are open.
pub(super) async fn accept(
    listeners: Vec<Listener>,
    worker: Rc<Worker>,
    mut phase: watch::Receiver<Phase>,
    shared: Shared,
) -> io::Result<()> {
    let Shared { settings, certificates, guard, mut pressure, workers, .. } = shared;
    // Each worker has its part: it can make room among its own connections only.
    let handshakes_max = settings.max_handshakes.div_ceil(workers);
    let mut listeners = Listeners::new(listeners)?;
    let instruments = Arc::clone(&worker.gateway.load().instruments);
    let mut connections = JoinSet::new();
    let mut open = Open::default();
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = Duration::ZERO;
    let mut pressed = Pressure::None;
    let freed = Freed::of_this_thread();
    while *phase.borrow_and_update() == Phase::Serving {
        tokio::select! {
            biased;
            changed = phase.changed() => if changed.is_err() { break },
            Some(ended) = connections.join_next_with_id(), if !connections.is_empty() => report(ended, &mut open),
            Ok(()) = pressure.changed() => {
                let now = *pressure.borrow_and_update();
                relieve(now, pressed, &mut open, &instruments);
                pressed = now;
            }
            () = freed.is_much() => give_back(&mut open, &freed),
            _ = sweeps.tick() => {
                worker.pool.sweep();
                give_back(&mut open, &freed);
            }
            accepted = accept_after(&mut listeners, pause), if *pressure.borrow() != Pressure::Closed => match accepted {
                Ok((socket, address)) => {
                    pause = Duration::ZERO;
                    instruments.accepted.add((), 1);
                    let Some(permit) = admit(&guard, address, &mut open, &instruments) else { continue };
                    let activity = open.activity(permit);
                    let is_encrypted = certificates.is_some() && matches!(socket, Socket::Tcp(_));
                    if is_encrypted {
                        let has_one_gone = open.shake_hands(&activity, handshakes_max);
                        instruments.rejected.add(Rejection::TooManyHandshakes, u64::from(has_one_gone));
                    }
                    let active = instruments.connections.enter(());
                    let scheme = if is_encrypted { Scheme::Https } else { Scheme::Http };
                    let client = Client { settings: Arc::clone(&settings), activity: Rc::clone(&activity), scheme };
                    let (worker, phase, certificates) = (Rc::clone(&worker), phase.clone(), certificates.clone());
                    let task = connections.spawn_local(async move {
                        let opened = opened(socket, certificates, &client.settings, &worker).await;
                        client.activity.has_shaken_hands();
                        match opened {
                            Some((socket, false)) => connection::serve(socket, worker, phase, client).await,
                            Some((socket, true)) => Box::pin(http2::serve(socket, worker, phase, client)).await,
                            None => {}
                        }
                        drop(active);
                    });
                    open.add(activity, task);
                }
                Err(error) => {
                    // Out of file descriptors: the next accept fails as well, so wait for some.
                    pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                    instruments.accept_errors.add((), 1);
                    let has_room = open.evict();
                    instruments.rejected.add(Rejection::Evicted, u64::from(has_room));
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept a connection");
                }
            },
        }
    }
    drop(listeners);
    last(connections, open, phase).await;
    Ok(())
}

/// Gives back what crowds and large bodies that are gone have left with the allocator.
fn give_back(open: &mut Open, freed: &Freed) {
    // Both are to be asked.
    if open.has_crowd_left() | freed.take() {
        sys::give_back_memory();
    }
}

/// Makes room where memory is short: what is free first, then the places of those that have nothing to do.
fn relieve(now: Pressure, before: Pressure, open: &mut Open, instruments: &ServerInstruments) {
    if now != Pressure::None {
        sys::give_back_memory();
    }
    if now > before && now >= Pressure::Refusing {
        instruments.rejected.add(Rejection::Evicted, open.evict_all() as u64);
    }
}

/// Waits for the connections that are open, as long as they may be.
async fn last(mut connections: JoinSet<()>, mut open: Open, mut phase: watch::Receiver<Phase>) {
    let mut closing = pin!(phase.wait_for(|phase| *phase == Phase::Closing));
    loop {
        tokio::select! {
            ended = connections.join_next_with_id() => match ended {
                Some(ended) => report(ended, &mut open),
                None => return,
            },
            // Also when nobody is left who could say so.
            _ = &mut closing => return connections.shutdown().await,
        }
    }
}

async fn accept_after(listeners: &mut Listeners, pause: Duration) -> io::Result<(Socket, Option<SocketAddr>)> {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    poll_fn(|cx| listeners.poll_accept(cx)).await
}

/// The socket itself, or TLS over it where there are certificates and it is one of the network; and
/// whether HTTP/2 is spoken on it.
async fn opened(
    socket: Socket,
    certificates: Option<Arc<Certificates>>,
    settings: &config::Server,
    worker: &Worker,
) -> Option<(Socket, bool)> {
    match (socket, certificates) {
        (Socket::Tcp(socket), Some(certificates)) => {
            let instruments = Arc::clone(&worker.gateway.load().instruments);
            // Large, and needed once.
            let stream = Box::pin(certificates.accept(socket, settings, &instruments)).await?;
            let is_http2 = tls::is_http2(&stream);
            Some((stream.into(), is_http2))
        }
        (Socket::Tcp(socket), None) if settings.h2c => {
            match Box::pin(begins_http2(&socket, settings.first_byte_timeout)).await {
                Ok(is_http2) => Some((Socket::Tcp(socket), is_http2)),
                Err(_) => {
                    worker.gateway.load().instruments.timeouts.add(ConnectionTimeout::FirstByte, 1);
                    None
                }
            }
        }
        (socket, _) => Some((socket, false)),
    }
}

/// Whether the first bytes are the preface of HTTP/2; an error where they do not come in time, or stop where they could
/// still be that. What comes of anything else is for HTTP/1.1 to say.
async fn begins_http2(socket: &Tcp, limit: Duration) -> Result<bool, Elapsed> {
    let looking = async {
        let mut first = [0; http2::PREFACE.len()];
        loop {
            let Ok(length) = socket.peek(&mut first).await else { return false };
            if length == 0 || !http2::PREFACE.starts_with(first.get(..length).unwrap_or_default()) {
                return false;
            }
            if length == first.len() {
                return true;
            }
            // What is not taken is there at once again.
            tokio::time::sleep(PEEK_PAUSE).await;
        }
    };
    tokio::time::timeout(limit, looking).await
}

/// A place for a new connection, if need be that of one that is idle.
fn admit(
    guard: &Arc<Guard>,
    address: Option<SocketAddr>,
    open: &mut Open,
    instruments: &ServerInstruments,
) -> Option<Permit> {
    let address = address.map(|address| address.ip());
    let admitted = guard.admit(address).or_else(|reason| {
        let can_help = match reason {
            Rejection::Connections => open.evict(),
            _ => false,
        };
        if !can_help {
            return Err(reason);
        }
        instruments.rejected.add(Rejection::Evicted, 1);
        guard.admit(address)
    });
    admitted.inspect_err(|reason| instruments.rejected.add(*reason, 1)).ok()
}

fn report(ended: Result<(Id, ()), JoinError>, open: &mut Open) {
    open.remove(match &ended {
        Ok((task, ())) => *task,
        Err(error) => error.id(),
    });
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; others go on");
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
        time::Instant,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// What is made of these bytes, and how long it takes when no more come.
    async fn looked_at(bytes: &[u8]) -> (Option<bool>, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        client.write_all(bytes).await.unwrap();
        let since = Instant::now();
        (begins_http2(&socket.into(), LIMIT).await.ok(), since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_that_is_not_whole_in_time_is_nothing() {
        for bytes in [&b""[..], b"P", b"PRI * HTTP", &http2::PREFACE[..23]] {
            let (found, took) = looked_at(bytes).await;
            assert_eq!(found, None);
            assert!(took >= LIMIT && took < 2 * LIMIT, "{took:?}");
        }
        assert_eq!(looked_at(http2::PREFACE).await.0, Some(true));
        for bytes in [&b"GET"[..], b"POST", b"PRI * HTTP/1"] {
            assert_eq!(looked_at(bytes).await.0, Some(false));
        }
    }
}
