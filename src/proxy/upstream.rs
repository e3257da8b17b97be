//! One request to one deployment: headers, credentials, limits, and what the status means.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{Worker, body::Source, echo, request::ModelRequest, response};
use crate::{
    api::error::{Error, ErrorKind},
    gateway::{Deployment, Transport},
    http_client,
    message::Response,
};

/// How long the beginning of an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) limit: Duration,
    /// What it is of.
    option: &'static str,
}

impl Patience {
    /// With a deployment; a stream has less time where another one remains.
    pub(super) fn of(deployment: &Deployment, request: &ModelRequest<'_>, first_content: Option<Duration>) -> Self {
        let limit = deployment.provider.first_byte_timeout;
        match first_content.filter(|first| request.is_stream() && *first < limit) {
            Some(limit) => Self { limit, option: "first_content_timeout" },
            None => Self { limit, option: "first_byte_timeout" },
        }
    }

    /// The error of a provider that took longer for what it did not do.
    pub(super) fn over(self, what: &str) -> Error {
        let message = format!("the provider {what} within {} s (`{}`)", self.limit.as_secs(), self.option);
        Error::new(ErrorKind::ProviderTimeout, message)
    }
}

/// Sends the request and waits for the head of an answer.
pub(super) async fn send(
    worker: &Worker,
    deployment: &Deployment,
    request: &ModelRequest<'_>,
    ask_usage: bool,
    started: Instant,
    patience: Patience,
) -> Result<Response<Source>, Error> {
    let body = request.body_for(deployment, ask_usage);
    let http = match &deployment.provider.transport {
        Transport::Echo { delay } => {
            return Ok(echo::answer(request.operation, &body.whole(), *delay).map(Source::Echo));
        }
        Transport::Http(http) => http,
    };
    let mut head = http.head(request.operation).begin();
    request.push_headers(&mut head);
    let upstream = head.finish(body);
    let limit = patience.limit;
    let sending = worker.pool.send(&http.origin, http.limits, &upstream, response::is_passed, started, limit);
    match sending.await {
        Ok(sent) => {
            if sent.opened {
                deployment.provider.connections_opened.add((), 1);
            }
            Ok(sent.response.map(Source::Http))
        }
        Err(http_client::Error::ResponseTimeout) => Err(patience.over("sent no answer")),
        Err(error) => Err(unanswered(deployment, &error)),
    }
}

/// Why an answer of this status is not passed on, if it is not.
///
/// 429 and 5xx are a reason to try the next deployment while there is one. A 401 speaks of our
/// key and a redirect of our configuration: neither is the client's business.
pub(super) fn verdict(status: StatusCode, is_last: bool) -> Option<ErrorKind> {
    match status.as_u16() {
        401 | 407 => Some(ErrorKind::ProviderCredentials),
        300..=399 => Some(ErrorKind::ProviderInvalidResponse),
        429 if !is_last => Some(ErrorKind::ProviderRateLimited),
        500.. if !is_last => Some(ErrorKind::ProviderServerError),
        _ => None,
    }
}

/// The kind under which an answer that is passed on counts; none for success.
pub(super) fn kind_of(status: StatusCode) -> Option<ErrorKind> {
    match status.as_u16() {
        ..400 => None,
        429 => Some(ErrorKind::ProviderRateLimited),
        500.. => Some(ErrorKind::ProviderServerError),
        _ => Some(ErrorKind::ProviderRejected),
    }
}

/// The error of an answer that is not passed on.
pub(super) fn refused(deployment: &Deployment, kind: ErrorKind, status: StatusCode) -> Error {
    let name = &deployment.provider.name;
    let message = match kind {
        ErrorKind::ProviderCredentials => {
            format!(
                "the provider refused the gateway's own credentials; the operator has to check providers.{name}.api_key"
            )
        }
        ErrorKind::ProviderInvalidResponse => {
            format!(
                "the provider answered with a redirect, which is not followed; the operator has to check providers.{name}.base_url"
            )
        }
        _ => format!("the provider answered {}", status.as_u16()),
    };
    Error::new(kind, message).internal(format!("status {}", status.as_u16()))
}

fn unanswered(deployment: &Deployment, error: &http_client::Error) -> Error {
    let (kind, message) = match error {
        http_client::Error::Connect(_) => (ErrorKind::ProviderUnreachable, "the provider could not be reached"),
        http_client::Error::ConnectTimeout => (ErrorKind::ProviderUnreachable, "connecting to the provider timed out"),
        http_client::Error::InvalidResponse(_) => {
            (ErrorKind::ProviderInvalidResponse, "the provider's answer is not valid HTTP")
        }
        http_client::Error::ResponseTimeout => (ErrorKind::ProviderTimeout, "the provider sent no answer in time"),
        http_client::Error::Closed(_)
        | http_client::Error::Reset(_)
        | http_client::Error::Body(_)
        | http_client::Error::BodyTooLarge => {
            (ErrorKind::ProviderUnreachable, "the provider closed the connection before it answered")
        }
    };
    Error::new(kind, message).internal(format!("{}: {error}", deployment.provider.name))
}

/// Warns of a failed attempt, at most once a second and thread: a provider that is down must not
/// fill the disk. Every failure is counted.
pub(super) fn log_failure(deployment: &Deployment, error: &Error, is_last: bool, pause: Option<Duration>) {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if LAST.get().is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
        return;
    }
    LAST.set(Some(now));
    let next = match pause {
        Some(_) => "trying again after a pause",
        None if is_last => "no deployment left",
        None => "trying the next deployment",
    };
    tracing::warn!(
        provider = deployment.provider.name,
        model = deployment.model,
        error.type = error.kind.face().error_type,
        detail = error.internal.as_deref().unwrap_or(&error.message),
        pause_ms = pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        next,
        "attempt failed"
    );
}
