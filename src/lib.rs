//! tollgate: an LLM gateway in one small binary that pushes complete, correct metrics over OTLP.
//!
//! The modules, from the outside in; imports go strictly down this list:
//!
//! - [`cli`]: subcommands, one file each.
//! - [`server`]: sockets in, the worker threads, the drain.
//! - [`admin`]: what is not for clients: metrics to scrape, probes.
//! - [`proxy`]: the path of one request. Start reading there.
//! - [`export`]: sending metrics: the background task, retries, explaining a receiver's answer.
//! - [`routing`]: which deployment of a model is tried next.
//! - [`gateway`]: what the program runs on, immutable and swapped whole.
//! - [`config`]: what the operator wrote, parsed and validated.
//! - [`http_client`]: the pooled client that `proxy` and `export` share.
//! - [`telemetry`]: what is counted: the metric table, the registry of atomics, OTLP bytes, text.
//! - [`message`]: HTTP/1.1 messages, for both sides: framing, chunks, the memory of a thread.
//! - [`api`]: wire formats as plain functions.
//! - `sys`: one call of the C library.

pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod export;
#[cfg(test)]
mod fuzz;
pub mod gateway;
pub mod http_client;
pub mod message;
pub mod proxy;
pub mod routing;
pub mod server;
mod sys;
pub mod telemetry;

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    admin::Admin,
    config::{Config, Listen, Source},
    export::{Exporter, Report, Scrape},
    gateway::{Gateway, Part, Reloaded, Reloader},
    server::{Certificates, Inherited, NoCertificates, Server},
    telemetry::Registry,
};

/// What is left for the last export when somebody has asked twice for the end.
const HURRIED_EXPORT_MAX: Duration = Duration::from_millis(500);

/// A running gateway: the server's threads, and the exporter and the admin listener on the caller's.
#[derive(Debug)]
pub struct Tollgate {
    /// Where clients connect, with the ports that were found.
    pub places: Vec<Listen>,
    /// Where operators connect.
    pub admin_place: Option<Listen>,
    /// How the exports go.
    pub exports: export::State,
    server: Server,
    admin: Option<admin::Running>,
    gateway: Arc<ArcSwap<Gateway>>,
    /// `None` for a configuration that came from no file.
    reloader: Option<Rc<Reloader>>,
    exporter: JoinHandle<()>,
    stop_export: oneshot::Sender<()>,
    drain_timeout: Duration,
}

impl Tollgate {
    /// Starts serving and exporting, or says what stands in the way.
    ///
    /// Has to be called inside a `LocalSet`, on which the exporter and the admin listener run;
    /// `observe` is told of every export and what became of it.
    pub fn start(config: &Config, observe: impl FnMut(&Registry, &Report) + 'static) -> Result<Self, String> {
        Self::start_from(config, None, Inherited::default(), observe)
    }

    /// As [`Self::start`]; what came from files is read again when they change or it is told to.
    pub fn start_from(
        config: &Config,
        source: Option<&Source>,
        mut inherited: Inherited,
        observe: impl FnMut(&Registry, &Report) + 'static,
    ) -> Result<Self, String> {
        let registry = Registry::with(config.telemetry.max_series, config.telemetry.aggregations.clone());
        let gateway = Arc::new(ArcSwap::from_pointee(Gateway::new(config, &registry)?));
        let certificates = config.server.tls.as_ref().map(Certificates::load).transpose()?;
        let reloader = source.map(|source| {
            let (source, registry) = (source.clone(), Arc::clone(&registry));
            let part: Box<dyn Part> = match &certificates {
                Some(certificates) => Box::new(Arc::clone(certificates)),
                None => Box::new(NoCertificates),
            };
            Rc::new(Reloader::new(config, source, registry, Arc::clone(&gateway), vec![part]))
        });
        let scrape = config.telemetry.prometheus.then(|| Scrape::new(Arc::clone(&registry)));
        let exporter = Exporter::new(registry, &config.telemetry)?;
        let exports = exporter.state();
        let admin = Admin::bind(&config.admin, inherited.take_admin())?;
        let server = Server::start(&config.server, &gateway, certificates, inherited)?;
        let parts = admin::Parts {
            scrape,
            resource: config.telemetry.resource.clone(),
            ready: server.readiness(),
            gateway: Arc::clone(&gateway),
            reloader: reloader.clone(),
            public: server.places.clone(),
            has_tls: config.server.tls.is_some(),
            exports: exports.clone(),
        };
        let admin = admin.map(|admin| admin.start(parts));
        if let (Some(reloader), Some(interval)) = (&reloader, config.reload.watch) {
            let reloader = Rc::clone(reloader);
            tokio::task::spawn_local(async move { reloader.watch(interval).await });
        }
        let (stop_export, stopped) = oneshot::channel();
        let exporter = tokio::task::spawn_local(async move {
            // A dropped sender stops it as well.
            let stopped = async { drop(stopped.await) };
            exporter.run(stopped, observe).await;
        });
        Ok(Self {
            places: server.places.clone(),
            admin_place: admin.as_ref().map(|admin| admin.place.clone()),
            exports,
            server,
            admin,
            gateway,
            reloader,
            exporter,
            stop_export,
            drain_timeout: config.server.drain_timeout,
        })
    }

    /// The first address that clients connect to over TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.address()
    }

    /// Reads the configuration again, if it came from a file.
    pub fn reload(&self) -> Option<Reloaded> {
        self.reloader.as_ref().map(|reloader| reloader.reload())
    }

    /// Waits until the configuration has been read again, for whatever reason.
    pub fn reloaded(&self) -> impl Future<Output = ()> + use<> {
        let reloader = self.reloader.clone();
        async move {
            match reloader {
                Some(reloader) => reloader.reloaded().await,
                None => std::future::pending().await,
            }
        }
    }

    /// What came of the last time that the configuration was read again.
    pub fn last_reload(&self) -> Option<Reloaded> {
        Some(self.reloader.as_ref()?.last()?.1)
    }

    /// How many requests of clients are under way.
    pub fn requests_under_way(&self) -> i64 {
        self.gateway.load().requests_under_way()
    }

    /// Whether every worker thread has turned since the last time that this was asked.
    pub fn beats(&self) -> bool {
        self.server.beats()
    }

    /// Waits until a worker thread ends, which none does while serving.
    pub async fn failed(&mut self) {
        self.server.failed().await;
    }

    /// Lets requests finish, for no longer than `hurry` takes, then exports for the last time and
    /// closes the admin listener, which is there to say how the drain goes. Says whether every request finished.
    pub async fn shutdown(self, hurry: impl Future<Output = ()>) -> bool {
        let mut hurry = pin!(hurry);
        let mut is_hurried = false;
        let finished = self
            .server
            .drain(self.drain_timeout, async {
                hurry.as_mut().await;
                is_hurried = true;
            })
            .await;
        drop(self.stop_export);
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
        let leave = async {
            if is_hurried {
                tokio::time::sleep(HURRIED_EXPORT_MAX).await;
            } else {
                hurry.await;
            }
        };
        tokio::select! {
            ended = self.exporter => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the exporter failed");
                }
            }
            () = leave => tracing::warn!("the last export was cut off"),
        }
        finished
    }
}

/// The OTLP messages generated from `proto/` (opentelemetry-proto v1.11.0).
#[expect(clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction, reason = "generated code")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/otlp.rs"));
}
