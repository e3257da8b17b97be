//! Answers that the gateway gives by itself: probes and the list of models.

use bytes::Bytes;
use http::StatusCode;

use crate::api::{openai, operation::Route};

/// An answer made here.
pub(super) struct Local {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

/// Health in the words of each prober; says no more than yes or no.
pub(super) fn probe(route: Route, ready: bool) -> Local {
    let json = "application/json";
    let text = "text/plain; charset=utf-8";
    let (up, content_type, yes, no) = match route {
        Route::Root => (true, text, "tollgate\n", ""),
        Route::Readyz => (ready, text, "ok\n", "not ready\n"),
        Route::LitellmLiveness => (ready, json, "\"I'm alive!\"", "{\"status\":\"shutting_down\"}"),
        Route::LitellmReadiness => (ready, json, "{\"status\":\"healthy\"}", "{\"status\":\"shutting_down\"}"),
        Route::Healthz | Route::Models | Route::Operation(_) => (true, text, "ok\n", ""),
    };
    Local {
        status: if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE },
        content_type,
        body: Bytes::from_static(if up { yes } else { no }.as_bytes()),
    }
}

/// `GET /v1/models`.
pub(super) fn models<'a>(names: impl Iterator<Item = &'a str>) -> Local {
    Local { status: StatusCode::OK, content_type: "application/json", body: openai::model_list(names).into() }
}
