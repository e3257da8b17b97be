//! Accepting: from a listener to a task of its own for every connection.

use std::{future::poll_fn, io, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

use super::{
    Phase, connection,
    listener::{Listener, Listeners},
    socket::Socket,
};
use crate::{config, http_client::SWEEP_INTERVAL, proxy::Worker};

/// Accepts until the shutdown, then waits for the connections that are open.
pub(super) async fn accept(
    listeners: Vec<Listener>,
    worker: Rc<Worker>,
    mut phase: watch::Receiver<Phase>,
    settings: &Arc<config::Server>,
) -> io::Result<()> {
    let mut listeners = Listeners::new(listeners)?;
    let instruments = Arc::clone(&worker.gateway.load().instruments);
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
            accepted = accept_after(&mut listeners, pause) => match accepted {
                Ok((socket, _)) => {
                    pause = Duration::ZERO;
                    instruments.accepted.add((), 1);
                    let guard = instruments.connections.enter(());
                    let serving = connection::serve(socket, Rc::clone(&worker), phase.clone(), Arc::clone(settings));
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
    drop(listeners);
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

async fn accept_after(listeners: &mut Listeners, pause: Duration) -> io::Result<(Socket, Option<SocketAddr>)> {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    poll_fn(|cx| listeners.poll_accept(cx)).await
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; others go on");
    }
}
