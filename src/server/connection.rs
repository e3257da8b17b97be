//! One client connection, HTTP/1.1.

use std::{convert::Infallible, pin::pin, rc::Rc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use tokio::{net::TcpStream, sync::watch};

use super::{Phase, socket::Socket};
use crate::proxy::{self, Activity, Worker};

/// Largest request head.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What hyper may buffer of a connection: its default of 400 KiB would be held per slow reader.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Serves requests until the client leaves or the drain is over.
pub(super) async fn serve(
    socket: TcpStream,
    worker: Rc<Worker>,
    mut phase: watch::Receiver<Phase>,
    head_timeout: Duration,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "the client left before it was served");
        return;
    }
    let activity = Activity::new();
    let service = service_fn(|request| {
        let (worker, busy) = (Rc::clone(&worker), activity.begin());
        async move { Ok::<_, Infallible>(proxy::serve(worker, request, busy).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(Socket::new(socket), service)
    );
    let mut idle = pin!(activity.idle_for(head_timeout));
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            // Also a head that does not come to its end.
            () = idle.as_mut() => return,
            changed = phase.changed() => match *phase.borrow_and_update() {
                Phase::Serving if changed.is_ok() => {}
                Phase::Draining if changed.is_ok() => connection.as_mut().graceful_shutdown(),
                // A server that is gone cannot be waited for.
                Phase::Serving | Phase::Draining | Phase::Closing => return,
            },
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
}
