//! Sockets in: worker threads, connections, and the drain.
//!
//! One `current_thread` runtime per worker, each with a listener of its own on the same port
//! (SO_REUSEPORT) and a connection pool of its own: a request never changes threads. The caller's
//! thread is the control thread; signals and the exporter live there.

mod accept;
mod connection;
mod governor;
mod guard;
mod http1;
mod http2;
mod inherited;
mod listener;
mod memory;
mod open;
mod pulse;
mod socket;
mod tls;
mod waiting;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    path::Path,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::LocalOptions,
    sync::{oneshot, watch},
};

use self::{
    governor::{Marks, Pressure},
    guard::Guard,
    listener::{Bound, Files, Listener},
    pulse::{Answering, Pulse},
};
pub use self::{
    inherited::Inherited,
    tls::{Certificates, NoCertificates},
};
use crate::{
    config::{self, Listen},
    gateway::Gateway,
    http_client::{Pool, TlsFiles},
    proxy::{self, Load},
};

/// Longest wait for connections that are being cut.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// How far the shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; those that are open finish their request.
    Draining,
    /// Connections are cut.
    Closing,
}

/// The running server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, with the ports that were found.
    pub places: Vec<Listen>,
    ready: Arc<AtomicBool>,
    phase: watch::Sender<Phase>,
    workers: Vec<oneshot::Receiver<()>>,
    pulse: Pulse,
    _files: Files,
}

impl Server {
    /// Binds every listener, then starts the workers; whatever fails, fails here.
    pub fn start(
        settings: &config::Server,
        gateway: &Arc<ArcSwap<Gateway>>,
        certificates: Option<Arc<Certificates>>,
        inherited: Inherited,
    ) -> Result<Self, String> {
        // The files of sockets that were handed over belong to who holds them.
        let is_ours = inherited.is_empty();
        let Bound { listeners, places } = listener::bind(settings, inherited)?;
        let files = Files::of(if is_ours { &places } else { &[] });
        let memory = settings.memory_limit.unwrap_or_else(|| memory::limit(Path::new("/")));
        let guard = Arc::new(Guard::new(settings, guard::connections(settings, memory, guard::descriptors())));
        let body_memory = settings.body_memory.unwrap_or(memory / 4).max(settings.body_bytes_max);
        let load = Load::new(body_memory, settings.threads);
        let marks = Marks {
            limit: memory,
            refusing_at: settings.memory_refuse_percent,
            closed_at: settings.memory_close_percent,
            interval: settings.memory_interval,
        };
        let pressure =
            governor::start(marks, &load, gateway).map_err(|error| format!("cannot start a thread: {error}"))?;
        let (settings, workers) = (Arc::new(settings.clone()), listeners.len());
        let shared = Shared { settings, certificates, guard, load, pressure, workers };
        let ready = Arc::new(AtomicBool::new(true));
        let (phase, _) = watch::channel(Phase::Serving);
        let mut workers = Vec::with_capacity(listeners.len());
        let (started, starts) = mpsc::channel();
        let (pulse, answering) = Pulse::of(listeners.len());
        for (number, (listeners, answering)) in listeners.into_iter().zip(answering).enumerate() {
            let (done, worker) = oneshot::channel();
            let (gateway, ready, phase) = (Arc::clone(gateway), Arc::clone(&ready), phase.subscribe());
            let shared = shared.clone();
            let started = started.clone();
            let spawned = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let ended = work((number, listeners, answering), gateway, ready, phase, shared, &started);
                if let Err(error) = ended
                    && let Err(mpsc::SendError(Err(error))) = started.send(Err(error))
                {
                    tracing::error!(%error, "a worker thread cannot go on");
                }
                // Nobody listens any more when the drain has been cut short.
                let _unheard = done.send(());
            });
            spawned.map_err(|error| format!("cannot start a worker thread: {error}"))?;
            workers.push(worker);
        }
        drop(started);
        // Who is told that the gateway serves finds all of it there.
        for start in starts.iter().take(workers.len()) {
            start.map_err(|error| format!("cannot start a worker thread: {error}"))?;
        }
        Ok(Self { places, ready, phase, workers, pulse, _files: files })
    }

    /// The first address that clients connect to over TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.places.iter().find_map(|place| match place {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        })
    }

    /// Whether requests are welcome: from the start until the shutdown.
    pub fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// Whether every worker has answered since the last time that this was asked.
    pub fn beats(&self) -> bool {
        self.pulse.beats()
    }

    /// Waits until a worker ends, which none does while serving.
    pub async fn failed(&mut self) {
        let workers = &mut self.workers;
        poll_fn(|cx| {
            let ended = workers.iter_mut().any(|worker| Pin::new(worker).poll(cx).is_ready());
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Stops accepting, lets requests finish within `limit` or until `hurry`, then cuts what is
    /// left. Says whether everything finished by itself.
    pub async fn drain(self, limit: Duration, hurry: impl Future<Output = ()>) -> bool {
        self.ready.store(false, Relaxed);
        self.phase.send_replace(Phase::Draining);
        let mut workers = self.workers;
        let mut finished = pin!(async {
            for worker in &mut workers {
                // An error says that the worker is gone, which is as good.
                let _gone = worker.await.is_err();
            }
        });
        let in_time = tokio::select! {
            () = &mut finished => true,
            () = tokio::time::sleep(limit) => false,
            () = hurry => false,
        };
        if !in_time {
            // Cutting is quick; it is waited for so that the last export knows of it.
            self.phase.send_replace(Phase::Closing);
            let _stuck = tokio::time::timeout(CLOSING_MAX, finished).await.is_err();
        }
        in_time
    }
}

/// What all workers go by.
#[derive(Debug, Clone)]
struct Shared {
    settings: Arc<config::Server>,
    certificates: Option<Arc<Certificates>>,
    guard: Arc<Guard>,
    load: Arc<Load>,
    pressure: watch::Receiver<Pressure>,
    /// How many there are.
    workers: usize,
}

/// The life of one worker thread.
fn work(
    (number, listeners, answering): (usize, Vec<Listener>, Answering),
    gateway: Arc<ArcSwap<Gateway>>,
    ready: Arc<AtomicBool>,
    phase: watch::Receiver<Phase>,
    shared: Shared,
    started: &mpsc::Sender<io::Result<()>>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(shared.settings.max_lookups)
        .build_local(LocalOptions::default())?;
    let worker = Rc::new(proxy::Worker {
        number,
        gateway,
        load: Arc::clone(&shared.load),
        pool: Pool::new(TlsFiles::default()),
        ready,
        request_ids: proxy::RequestIds::new(),
        batches: proxy::Batches::new(),
    });
    // Nobody waits for it when another worker could not start.
    let _unheard = started.send(Ok(()));
    runtime.block_on(async {
        tokio::task::spawn_local(answering.run());
        let releasing = Rc::clone(&worker);
        tokio::task::spawn_local(async move { releasing.batches.release().await });
        accept::accept(listeners, worker, phase, shared).await
    })
}

#[cfg(test)]
mod tests;
