//! The TOML file as written. Every table refuses keys it does not know.

use toml::{Spanned, de::DeValue};

use super::{
    problem::Problems,
    reference::Reference,
    table::{Field, Named, Read, Table, Value, integer, tables},
};

/// Request headers with secret values.
pub(super) type Headers = Named<Spanned<Reference>>;

tables! {
    #[derive(Default)]
    pub(super) struct File {
        pub(super) server: Server,
        pub(super) routing: Routing,
        pub(super) providers: Named<Provider>,
        pub(super) models: Named<Model>,
        pub(super) keys: Vec<Spanned<Key>>,
        pub(super) telemetry: Telemetry,
        pub(super) admin: Admin,
        pub(super) reload: Reload,
        pub(super) log: Log,
    }

    /// `[log]`.
    #[derive(Default)]
    pub(super) struct Log {
        pub(super) level: Option<Spanned<String>>,
        pub(super) format: Option<Spanned<String>>,
        pub(super) access: Option<bool>,
        pub(super) max_line_bytes: Option<Spanned<Size>>,
        pub(super) max_lines_per_second: Option<Spanned<i64>>,
    }

    #[derive(Default)]
    pub(super) struct Reload {
        pub(super) watch: Option<bool>,
        pub(super) interval: Option<Spanned<String>>,
    }

    #[derive(Default)]
    pub(super) struct Server {
        pub(super) listen: Option<Spanned<OneOrMany>>,
        pub(super) unix_mode: Option<Spanned<String>>,
        pub(super) threads: Option<Spanned<i64>>,
        pub(super) trusted_proxies: Option<Vec<Spanned<String>>>,
        pub(super) tls: Option<Spanned<ServerTls>>,
        pub(super) h2c: Option<bool>,
        pub(super) max_connections: Option<Spanned<i64>>,
        pub(super) max_connections_per_address: Option<Spanned<i64>>,
        pub(super) max_unauthenticated: Option<Spanned<i64>>,
        pub(super) max_handshakes: Option<Spanned<i64>>,
        pub(super) handshake_timeout: Option<Spanned<String>>,
        pub(super) first_byte_timeout: Option<Spanned<String>>,
        pub(super) head_timeout: Option<Spanned<String>>,
        pub(super) idle_timeout: Option<Spanned<String>>,
        pub(super) max_connection_age: Option<Spanned<String>>,
        pub(super) max_connection_requests: Option<Spanned<i64>>,
        pub(super) max_head_bytes: Option<Spanned<Size>>,
        pub(super) max_headers: Option<Spanned<i64>>,
        pub(super) max_target_bytes: Option<Spanned<Size>>,
        pub(super) body_bytes_max: Option<Spanned<Size>>,
        pub(super) body_timeout: Option<Spanned<String>>,
        pub(super) min_body_rate: Option<Spanned<Size>>,
        pub(super) min_body_rate_after: Option<Spanned<String>>,
        pub(super) write_timeout: Option<Spanned<String>>,
        pub(super) send_buffer: Option<Spanned<Size>>,
        pub(super) memory_limit: Option<Spanned<Size>>,
        pub(super) memory_refuse_percent: Option<Spanned<i64>>,
        pub(super) memory_close_percent: Option<Spanned<i64>>,
        pub(super) memory_interval: Option<Spanned<String>>,
        pub(super) body_memory: Option<Spanned<Size>>,
        pub(super) auth_failures_per_second: Option<Spanned<i64>>,
        pub(super) auth_failures_burst: Option<Spanned<i64>>,
        pub(super) max_requests: Option<Spanned<i64>>,
        pub(super) max_requests_per_key: Option<Spanned<i64>>,
        pub(super) max_lookups: Option<Spanned<i64>>,
        pub(super) drain_timeout: Option<Spanned<String>>,
        pub(super) http2: Option<ServerHttp2>,
    }

    /// `[routing]`.
    #[derive(Default)]
    pub(super) struct Routing {
        pub(super) max_attempts: Option<Spanned<i64>>,
        pub(super) attempts_per_deployment: Option<Spanned<i64>>,
        pub(super) retry_backoff: Option<Spanned<String>>,
        pub(super) max_retry_wait: Option<Spanned<String>>,
        pub(super) retry_percent: Option<Spanned<i64>>,
        pub(super) retries_per_second: Option<Spanned<i64>>,
        pub(super) first_content_timeout: Option<Spanned<String>>,
        pub(super) cooldown_failures: Option<Spanned<i64>>,
        pub(super) cooldown_window: Option<Spanned<String>>,
        pub(super) cooldown: Option<Spanned<String>>,
        pub(super) cooldown_max: Option<Spanned<String>>,
        pub(super) cooldown_credentials: Option<Spanned<String>>,
        pub(super) max_retry_after: Option<Spanned<String>>,
    }

    /// `[server.tls]`: PEM files.
    #[expecting = "expected { cert = \"…\", key = \"…\" }"]
    pub(super) struct ServerTls {
        pub(super) cert: Spanned<String>,
        pub(super) key: Spanned<String>,
        pub(super) client_ca: Option<Spanned<String>>,
        pub(super) client_auth: Option<Spanned<String>>,
        pub(super) min_version: Option<Spanned<String>>,
    }

    /// `[server.http2]`.
    #[derive(Default)]
    pub(super) struct ServerHttp2 {
        pub(super) max_streams: Option<Spanned<i64>>,
        pub(super) max_resets: Option<Spanned<i64>>,
        pub(super) reset_window: Option<Spanned<String>>,
        pub(super) max_pending_resets: Option<Spanned<i64>>,
        pub(super) max_error_resets: Option<Spanned<i64>>,
        pub(super) max_header_list_bytes: Option<Spanned<Size>>,
        pub(super) max_frame_bytes: Option<Spanned<Size>>,
        pub(super) stream_window: Option<Spanned<Size>>,
        pub(super) connection_window: Option<Spanned<Size>>,
        pub(super) send_buffer: Option<Spanned<Size>>,
        pub(super) idle_timeout: Option<Spanned<String>>,
        pub(super) ping_interval: Option<Spanned<String>>,
        pub(super) ping_timeout: Option<Spanned<String>>,
        pub(super) stall_timeout: Option<Spanned<String>>,
    }

    #[derive(Default)]
    pub(super) struct Provider {
        pub(super) kind: Option<Spanned<String>>,
        pub(super) base_url: Option<Spanned<String>>,
        pub(super) api_key: Option<Spanned<Reference>>,
        pub(super) include_usage: Option<bool>,
        pub(super) connect_timeout: Option<Spanned<String>>,
        pub(super) dns_timeout: Option<Spanned<String>>,
        pub(super) dns_ttl: Option<Spanned<String>>,
        pub(super) dns_failure_ttl: Option<Spanned<String>>,
        pub(super) dns_stale_ttl: Option<Spanned<String>>,
        pub(super) first_byte_timeout: Option<Spanned<String>>,
        pub(super) idle_timeout: Option<Spanned<String>>,
        pub(super) answer_timeout: Option<Spanned<String>>,
        pub(super) stream_timeout: Option<Spanned<String>>,
        pub(super) max_head_bytes: Option<Spanned<Size>>,
        pub(super) max_headers: Option<Spanned<i64>>,
        pub(super) max_event_bytes: Option<Spanned<Size>>,
        pub(super) max_usage_bytes: Option<Spanned<Size>>,
        pub(super) delay: Option<Spanned<String>>,
    }

    pub(super) struct Model {
        pub(super) first_content_timeout: Option<Spanned<String>>,
        pub(super) deployments: Spanned<Vec<Deployment>>,
    }

    pub(super) struct Deployment {
        pub(super) provider: Spanned<String>,
        pub(super) model: Option<Spanned<String>>,
        pub(super) price: Option<Price>,
    }

    /// In USD per million tokens.
    #[expecting = "{ input = …, output = … } in USD per million tokens"]
    pub(super) struct Price {
        pub(super) input: Spanned<f64>,
        pub(super) output: Spanned<f64>,
        pub(super) cache_read: Option<Spanned<f64>>,
        pub(super) cache_write: Option<Spanned<f64>>,
    }

    pub(super) struct Key {
        pub(super) name: Spanned<String>,
        pub(super) key: Option<Spanned<Reference>>,
        pub(super) sha256: Option<Spanned<String>>,
        pub(super) models: Option<Vec<Spanned<String>>>,
        pub(super) comment_interval: Option<Spanned<String>>,
    }

    #[derive(Default)]
    pub(super) struct Telemetry {
        pub(super) exporters: Option<Vec<Spanned<String>>>,
        pub(super) endpoint: Option<Spanned<String>>,
        pub(super) protocol: Option<Spanned<String>>,
        pub(super) interval: Option<Spanned<String>>,
        pub(super) timeout: Option<Spanned<String>>,
        pub(super) export_timeout: Option<Spanned<String>>,
        pub(super) headers: Headers,
        pub(super) compression: Option<Spanned<String>>,
        pub(super) certificate: Option<Spanned<String>>,
        pub(super) client_certificate: Option<Spanned<String>>,
        pub(super) client_key: Option<Spanned<String>>,
        pub(super) temporality: Option<Spanned<String>>,
        pub(super) histograms: Option<Spanned<String>>,
        pub(super) buckets: Named<Spanned<Vec<f64>>>,
        pub(super) max_series: Option<Spanned<i64>>,
        pub(super) max_request_bytes: Option<Spanned<Size>>,
        pub(super) max_response_bytes: Option<Spanned<Size>>,
        pub(super) service_name: Option<Spanned<String>>,
        pub(super) resource: Named<Spanned<String>>,
        pub(super) export: Vec<Spanned<Export>>,
    }

    pub(super) struct Export {
        pub(super) name: Spanned<String>,
        pub(super) endpoint: Spanned<String>,
        pub(super) protocol: Option<Spanned<String>>,
        pub(super) headers: Headers,
        pub(super) compression: Option<Spanned<String>>,
        pub(super) certificate: Option<Spanned<String>>,
        pub(super) client_certificate: Option<Spanned<String>>,
        pub(super) client_key: Option<Spanned<String>>,
        pub(super) temporality: Option<Spanned<String>>,
        pub(super) timeout: Option<Spanned<String>>,
        pub(super) interval: Option<Spanned<String>>,
        pub(super) export_timeout: Option<Spanned<String>>,
    }

    #[derive(Default)]
    pub(super) struct Admin {
        pub(super) listen: Option<Spanned<String>>,
        pub(super) token: Option<Spanned<Reference>>,
    }
}

/// Bytes as a number, or as text with a unit.
#[derive(Debug)]
pub(super) enum Size {
    Bytes(u64),
    Text(String),
}

impl Read for Size {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(Self::Text(text.to_string())),
            number => match integer(number).and_then(|number| number.try_into().ok()) {
                Some(bytes) => Some(Self::Bytes(bytes)),
                None => {
                    problems.add(value.span(), "expected a size such as \"32MiB\", or bytes as a whole number");
                    None
                }
            },
        }
    }
}

/// One string, or a list of them.
#[derive(Debug)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Read for OneOrMany {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(Self::One(text.to_string())),
            DeValue::Array(_) => Vec::read(value, problems).map(Self::Many),
            _ => {
                problems.add(value.span(), "expected a string such as \"127.0.0.1:4000\", or a list of them");
                None
            }
        }
    }
}
