//! What is being asked, by method and path.
//!
//! Exact matches only: a path is never joined, decoded or normalised, so no spelling of it can
//! reach anything that is not in this table.

/// A model operation, named as `gen_ai.operation.name` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Chat,
    TextCompletion,
    Embeddings,
}

impl Operation {
    /// Every operation, in index order.
    pub const ALL: &'static [Self] = &[Self::Chat, Self::TextCompletion, Self::Embeddings];

    /// The value of `gen_ai.operation.name`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
            Self::Embeddings => "embeddings",
        }
    }

    /// The path below a provider's base URL.
    pub const fn upstream_path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::TextCompletion => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }

    /// Whether the answer can be a stream of events.
    pub const fn can_stream(self) -> bool {
        !matches!(self, Self::Embeddings)
    }
}

/// A path this gateway knows, named by its canonical spelling (`http.route`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    Operation(Operation),
    Models,
    Root,
    Healthz,
    Readyz,
    LitellmLiveness,
    LitellmReadiness,
}

impl Route {
    /// Every route, in index order.
    pub const ALL: &'static [Self] = &[
        Self::Operation(Operation::Chat),
        Self::Operation(Operation::TextCompletion),
        Self::Operation(Operation::Embeddings),
        Self::Models,
        Self::Root,
        Self::Healthz,
        Self::Readyz,
        Self::LitellmLiveness,
        Self::LitellmReadiness,
    ];

    /// The route of a request path, without its query.
    pub fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" | "/chat/completions" => Self::Operation(Operation::Chat),
            "/v1/completions" | "/completions" => Self::Operation(Operation::TextCompletion),
            "/v1/embeddings" | "/embeddings" => Self::Operation(Operation::Embeddings),
            "/v1/models" | "/models" => Self::Models,
            "/" => Self::Root,
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/health/liveliness" | "/health/liveness" => Self::LitellmLiveness,
            "/health/readiness" => Self::LitellmReadiness,
            _ => return None,
        })
    }

    /// The value of `http.route`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operation(Operation::Chat) => "/v1/chat/completions",
            Self::Operation(Operation::TextCompletion) => "/v1/completions",
            Self::Operation(Operation::Embeddings) => "/v1/embeddings",
            Self::Models => "/v1/models",
            Self::Root => "/",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::LitellmLiveness => "/health/liveliness",
            Self::LitellmReadiness => "/health/readiness",
        }
    }

    /// The methods it answers, as an `Allow` header says it (RFC 9110 §10.2.1).
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Operation(_) => "POST",
            Self::Models | Self::Root | Self::Healthz | Self::Readyz => "GET, HEAD",
            Self::LitellmLiveness | Self::LitellmReadiness => "GET, HEAD",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_with_and_without_v1() {
        for route in Route::ALL {
            assert_eq!(Route::of(route.as_str()), Some(*route));
            if let Some(bare) = route.as_str().strip_prefix("/v1") {
                assert_eq!(Route::of(bare), Some(*route));
            }
        }
    }

    #[test]
    fn near_misses_are_no_route() {
        for path in ["/v1/chat/completions/", "//v1/models", "/v1/../v1/models", "/V1/models", "/v1%2fmodels", "*", ""]
        {
            assert_eq!(Route::of(path), None, "{path:?}");
        }
    }
}
