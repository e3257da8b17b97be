//! One client connection, from its first byte to its last.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Phase,
    http1::{Asked, End, RequestBody, Start, Wire, respond},
    socket::Socket,
};
use crate::{
    config,
    message::Response,
    proxy::{self, Body, Worker},
};

/// Looks at an idle connection per idle time; it may last a quarter longer for that.
const LOOKS: u32 = 4;

/// Longest time for reading away what a client still sends when its connection is closed.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Serves requests until the client leaves or the drain begins.
pub(super) async fn serve(
    socket: Socket,
    worker: Rc<Worker>,
    mut phase: watch::Receiver<Phase>,
    settings: Arc<config::Server>,
) {
    let wire = RefCell::new(Wire::new(socket));
    // Polled only while the client has no request under way: then its wake-ups mean something.
    let mut drain = pin!(phase.wait_for(|phase| *phase != Phase::Serving));
    let mut idle = pin!(Idle::new(settings.idle_timeout));
    loop {
        let start = poll_fn(|cx| {
            let mut wire = wire.borrow_mut();
            if let Poll::Ready(start) = wire.poll_head(cx) {
                return Poll::Ready(start);
            }
            let is_over = !wire.has_begun() && drain.as_mut().poll(cx).is_ready();
            if is_over || idle.as_mut().poll(cx) { Poll::Ready(Start::Gone) } else { Poll::Pending }
        });
        let (response, asked) = match start.await {
            Start::Head(head) => {
                let asked = Asked::of(&head);
                let serving = pin!(proxy::serve(&worker, head.head, RequestBody(&wire)));
                let Some(response) = while_there(&wire, serving).await else { return };
                (response, asked)
            }
            Start::Refused(error) => (proxy::refuse(&worker, &error), Asked::nothing()),
            Start::Gone => return,
        };
        match respond(&wire, response, asked, worker.ready.load(Relaxed)).await {
            End::KeepAlive => idle.as_mut().has_worked(),
            End::Close => break,
            End::Cut => return,
        }
    }
    // A client that goes on sending has had its answer.
    let _cut_off = Box::pin(tokio::time::timeout(LINGER_MAX, wire.into_inner().close())).await.is_err();
}

/// The answer, unless the client leaves before there is one.
async fn while_there(
    wire: &RefCell<Wire>,
    mut serving: Pin<&mut impl Future<Output = Response<Body>>>,
) -> Option<Response<Body>> {
    poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => wire.borrow_mut().poll_gone(cx).map(|()| None),
    })
    .await
}

/// How long a connection has been without work.
///
/// No clock is read and no timer moved per request: the connection is looked at now and then.
struct Idle {
    look: Pin<Box<Sleep>>,
    every: Duration,
    /// Looks in a row that found no work.
    looks: u32,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        let every = limit / LOOKS;
        // Work can have ended just after a look, or as here just at one.
        Self { look: Box::pin(sleep_until(Instant::now() + every)), every, looks: 1 }
    }

    /// A request has ended since.
    fn has_worked(mut self: Pin<&mut Self>) {
        self.looks = 0;
    }

    /// Whether it has been too long.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        while self.look.as_mut().poll(cx).is_ready() {
            self.looks += 1;
            if self.looks > LOOKS {
                return true;
            }
            let next = Instant::now() + self.every;
            self.look.as_mut().reset(next);
        }
        false
    }
}
