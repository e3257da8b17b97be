//! One client connection, from its first byte to its last.

use std::{
    cell::RefCell,
    future::poll_fn,
    net::IpAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use http::StatusCode;
use tokio::sync::watch;

use super::{
    Phase,
    http1::{Asked, End, RequestBody, Start, Wire, respond},
    open::Activity,
    socket::Socket,
    waiting::Waiting,
};
use crate::{
    api::error::{Error, ErrorKind},
    config,
    message::{Headers, Response},
    proxy::{self, Body, Worker},
    telemetry::dimensions::{ConnectionTimeout, Rejection, Scheme},
};

/// Longest time for reading away what a client still sends when its connection is closed.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// What a connection is served with.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) settings: Arc<config::Server>,
    pub(super) activity: Rc<Activity>,
    pub(super) scheme: Scheme,
}

impl proxy::Client for Client {
    fn scheme(&self) -> Scheme {
        self.scheme
    }

    fn address(&self, headers: Option<&Headers>) -> Option<IpAddr> {
        let forwarded = headers.and_then(|headers| forwarded(&self.settings, headers));
        self.activity.permit.client(forwarded.as_deref())
    }

    fn authenticated(&self) {
        self.activity.permit.authenticated();
    }
}

/// Serves requests until the client leaves or the drain begins.
pub(super) async fn serve(socket: Socket, worker: Rc<Worker>, mut phase: watch::Receiver<Phase>, client: Client) {
    let Client { settings, activity, .. } = &client;
    let instruments = Arc::clone(&worker.gateway.load().instruments);
    let wire = RefCell::new(Wire::new(socket, settings));
    // Polled only while the client has no request under way: then its wake-ups mean something.
    let mut drain = pin!(phase.wait_for(|phase| *phase != Phase::Serving));
    let mut waiting = Waiting::new(settings);
    loop {
        let start = poll_fn(|cx| {
            let mut wire = wire.borrow_mut();
            if let Poll::Ready(start) = wire.poll_head(cx) {
                return Poll::Ready(start);
            }
            // A new client's first request may be on its way: it did not choose to come now.
            let may_leave = !wire.has_begun() && waiting.has_served();
            if may_leave && drain.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Start::Gone);
            }
            waiting.poll(cx, wire.has_begun()).map(|timeout| {
                instruments.timeouts.add(timeout, 1);
                match timeout {
                    ConnectionTimeout::Head => Start::Refused(late_head(settings.head_timeout)),
                    _ => Start::Gone,
                }
            })
        });
        let (response, asked) = match start.await {
            Start::Head(head) => {
                waiting.has_request();
                activity.is_busy();
                let forwarded = forwarded(settings, &head.head.headers);
                let asked = Asked::of(&head);
                let serving = pin!(proxy::serve(&worker, &client, head.head, RequestBody { wire: &wire }));
                let Some(response) = while_there(&wire, serving).await else { return };
                if response.status == StatusCode::UNAUTHORIZED && activity.permit.refused(forwarded.as_deref()) {
                    instruments.rejected.add(Rejection::RefusedKeys, 1);
                    return;
                }
                (response, asked)
            }
            Start::Refused(error) => (proxy::refuse(&worker, &client, &error), Asked::nothing()),
            Start::Gone => {
                poll_fn(|cx| {
                    wire.borrow_mut().say_goodbye(cx);
                    Poll::Ready(())
                })
                .await;
                return;
            }
        };
        let mut may_keep = waiting.may_go_on() && !worker.load.is_short() && worker.ready.load(Relaxed);
        if may_keep && !activity.permit.may_stay() {
            instruments.rejected.add(Rejection::Unauthenticated, 1);
            may_keep = false;
        }
        match respond(&wire, response, asked, may_keep).await {
            End::KeepAlive => {
                waiting.has_worked();
                activity.is_idle();
            }
            End::Close => break,
            End::Stalled => {
                instruments.timeouts.add(ConnectionTimeout::Write, 1);
                return;
            }
            End::Cut => return,
        }
    }
    // A client that goes on sending has had its answer.
    let _cut_off = Box::pin(tokio::time::timeout(LINGER_MAX, wire.into_inner().close())).await.is_err();
}

/// For whom a proxy in front says that it speaks: looked at where there can be one only.
pub(super) fn forwarded(settings: &config::Server, headers: &Headers) -> Option<Vec<u8>> {
    if settings.trusted_proxies.is_empty() {
        return None;
    }
    let lines: Vec<&[u8]> = headers.all("x-forwarded-for").collect();
    (!lines.is_empty()).then(|| lines.join(&b','))
}

fn late_head(limit: Duration) -> Error {
    let message = format!("the request head was not there within {} s (`server.head_timeout`)", limit.as_secs_f32());
    Error::new(ErrorKind::HeadTimeout, message)
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
