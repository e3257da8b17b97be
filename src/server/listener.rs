//! Listening and accepting.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

use super::{Phase, connection};
use crate::{http_client::SWEEP_INTERVAL, proxy::Worker};

/// Connections the kernel keeps for us to accept.
const BACKLOG: i32 = 4096;

/// Binds one of several listeners on the same address.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the shutdown, then waits for the connections that are open.
pub(super) async fn accept(
    listener: TcpListener,
    worker: Rc<Worker>,
    mut phase: watch::Receiver<Phase>,
    head_timeout: Duration,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let instruments = std::sync::Arc::clone(&worker.gateway.load().instruments);
    let mut connections = JoinSet::new();
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = Duration::ZERO;
    while *phase.borrow_and_update() == Phase::Serving {
        tokio::select! {
            biased;
            changed = phase.changed() => if changed.is_err() { break },
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            _ = sweeps.tick() => worker.pool.sweep(),
            accepted = accept_after(&listener, pause) => match accepted {
                Ok((socket, _)) => {
                    pause = Duration::ZERO;
                    instruments.accepted.add((), 1);
                    let guard = instruments.connections.enter(());
                    let serving = connection::serve(socket, Rc::clone(&worker), phase.clone(), head_timeout);
                    connections.spawn_local(async move {
                        serving.await;
                        drop(guard);
                    });
                }
                Err(error) => {
                    // Out of file descriptors: the next accept fails as well, so wait for some.
                    pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                    instruments.accept_errors.add((), 1);
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept a connection");
                }
            },
        }
    }
    drop(listener);
    let mut closing = pin!(phase.wait_for(|phase| *phase == Phase::Closing));
    loop {
        tokio::select! {
            ended = connections.join_next() => match ended {
                Some(ended) => report(ended),
                None => break Ok(()),
            },
            // Also when nobody is left who could say so.
            _ = &mut closing => {
                connections.shutdown().await;
                break Ok(());
            }
        }
    }
}

async fn accept_after(
    listener: &tokio::net::TcpListener,
    pause: Duration,
) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    listener.accept().await
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; others go on");
    }
}
