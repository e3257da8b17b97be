//! `[server]`: where clients connect, and what one of them may take of the gateway.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use toml::Spanned;

use super::{Listen, file, resolve::Resolve};

/// Most worker threads.
const THREADS_MAX: i64 = 256;
/// Largest of the numbers of things. Far beyond every use, and far from every overflow.
const COUNT_MAX: i64 = 1 << 30;

/// `[server]`, validated. `None` stands for a value that depends on the machine.
#[derive(Debug, Clone)]
pub struct Server {
    /// At least one.
    pub listen: Vec<Listen>,
    /// Permissions of unix sockets.
    pub unix_mode: u32,
    /// Worker threads, each with a runtime, a listener and a connection pool of its own.
    pub threads: usize,
    /// Who may say in `X-Forwarded-For` for whom it speaks; not limited by address themselves.
    pub trusted_proxies: Vec<Network>,
    /// `None` for plain text.
    pub tls: Option<ServerTls>,
    /// HTTP/2 without TLS, for clients that begin with it.
    pub h2c: bool,
    /// Open connections of clients; `None` for what memory and file descriptors allow.
    pub max_connections: Option<usize>,
    /// Open connections of one address; `None` without limit.
    pub max_connections_per_address: Option<usize>,
    /// Connections kept without having shown a valid key; `None` for a quarter of all.
    pub max_unauthenticated: Option<usize>,
    /// TLS handshakes under way.
    pub max_handshakes: usize,
    pub handshake_timeout: Duration,
    /// From accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// How long a kept connection may be without a request.
    pub idle_timeout: Duration,
    /// Give or take a tenth; then a connection closes with its next answer.
    pub max_connection_age: Duration,
    pub max_connection_requests: u32,
    pub max_head_bytes: usize,
    pub max_headers: usize,
    pub max_target_bytes: usize,
    pub body_bytes_max: usize,
    /// Longest wait between two reads of a request body.
    pub body_timeout: Duration,
    /// Bytes a second of a request body, on average, once it has taken a while.
    pub min_body_rate: usize,
    /// How long it may take before it has to.
    pub min_body_rate_after: Duration,
    /// Longest time in which a client takes nothing of what waits for it.
    pub write_timeout: Duration,
    /// Bytes for a client that the kernel has taken and not sent.
    pub send_buffer: u32,
    /// Memory that the process may take; `None` for that of the control group or machine.
    pub memory_limit: Option<usize>,
    /// Percent of the limit at which requests are refused, and at which connections are.
    pub memory_refuse_percent: usize,
    pub memory_close_percent: usize,
    /// From one look at the memory of the process to the next.
    pub memory_interval: Duration,
    /// All request bodies held at once; `None` for a quarter of the memory limit.
    pub body_memory: Option<usize>,
    /// Refused keys of one address, on average and at once.
    pub auth_failures_per_second: u32,
    pub auth_failures_burst: u32,
    /// Requests in flight, of all clients and of one key.
    pub max_requests: usize,
    pub max_requests_per_key: usize,
    /// Names that a worker looks up at once.
    pub max_lookups: usize,
    /// How long requests may go on after SIGTERM.
    pub drain_timeout: Duration,
    pub http2: Http2,
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` is one of them. An IPv4 address is the same however it is written.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            _ => return false,
        };
        differ >= u32::from(self.bits)
    }
}

/// `[server.tls]`: PEM files, relative to the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Who signs the certificates of clients; `None` when none is asked for.
    pub client_ca: Option<PathBuf>,
    pub client_auth: ClientAuth,
    pub min_version: TlsVersion,
}

/// What a client has to show where there is a `client_ca`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Optional,
    Required,
}

/// Versions of TLS that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// `[server.http2]`.
#[derive(Debug, Clone)]
pub struct Http2 {
    /// Open at once on one connection.
    pub max_streams: u32,
    /// Requests taken back at once, of a connection, before half of them are too many.
    pub max_resets: usize,
    /// The time that they are counted in.
    pub reset_window: Duration,
    /// Requests taken back before anybody has looked at them.
    pub max_pending_resets: usize,
    /// Streams that were reset because of what their client did wrong.
    pub max_error_resets: usize,
    pub max_header_list_bytes: u32,
    pub max_frame_bytes: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    /// Of one stream.
    pub send_buffer: usize,
    /// How long a connection may be without a stream.
    pub idle_timeout: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// How long a stream may take nothing of what waits for it.
    pub stall_timeout: Duration,
}

pub(super) fn resolve(file: &file::Server, resolve: &mut Resolve<'_, '_>) -> Server {
    let threads = resolve.count("threads", file.threads.as_ref(), 0, 0..=THREADS_MAX);
    let optional = |resolve: &mut Resolve<'_, '_>, name, value: &Option<Spanned<i64>>| {
        value.as_ref().map(|value| resolve.count(name, Some(value), 1, 1..=COUNT_MAX))
    };
    let count = |resolve: &mut Resolve<'_, '_>, name, value: &Option<Spanned<i64>>, default| {
        resolve.count(name, value.as_ref(), default, 1..=COUNT_MAX)
    };
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let max_connections = optional(resolve, "max_connections", &file.max_connections);
    let per_address =
        resolve.count("max_connections_per_address", file.max_connections_per_address.as_ref(), 256, 0..=COUNT_MAX);
    let server = Server {
        listen: listen(file, resolve),
        unix_mode: resolve.parse(file.unix_mode.as_ref(), "0660", mode).unwrap_or(0o660),
        threads: match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        },
        trusted_proxies: networks(file, resolve),
        tls: file.tls.as_ref().and_then(|tls| self::tls(tls, resolve)),
        h2c: file.h2c.unwrap_or_default(),
        max_connections,
        max_connections_per_address: (per_address > 0).then_some(per_address),
        max_unauthenticated: optional(resolve, "max_unauthenticated", &file.max_unauthenticated),
        max_handshakes: count(resolve, "max_handshakes", &file.max_handshakes, 256),
        handshake_timeout: resolve.duration(file.handshake_timeout.as_ref(), "5s"),
        first_byte_timeout: resolve.duration(file.first_byte_timeout.as_ref(), "5s"),
        head_timeout: resolve.duration(file.head_timeout.as_ref(), "10s"),
        idle_timeout: resolve.duration(file.idle_timeout.as_ref(), "75s"),
        max_connection_age: resolve.duration(file.max_connection_age.as_ref(), "1h"),
        max_connection_requests: small(count(
            resolve,
            "max_connection_requests",
            &file.max_connection_requests,
            10_000,
        )),
        max_head_bytes: resolve.size_within(file.max_head_bytes.as_ref(), 32 << 10, 1 << 10..=1 << 20),
        max_headers: resolve.count("max_headers", file.max_headers.as_ref(), 100, 1..=1000),
        max_target_bytes: resolve.size(file.max_target_bytes.as_ref(), 4 << 10),
        body_bytes_max: resolve.size_within(file.body_bytes_max.as_ref(), 32 << 20, 1..=512 << 20),
        body_timeout: resolve.duration(file.body_timeout.as_ref(), "15s"),
        min_body_rate: resolve.size(file.min_body_rate.as_ref(), 8 << 10),
        min_body_rate_after: resolve.duration(file.min_body_rate_after.as_ref(), "30s"),
        write_timeout: resolve.duration(file.write_timeout.as_ref(), "30s"),
        send_buffer: small(resolve.size_within(file.send_buffer.as_ref(), 128 << 10, 16 << 10..=64 << 20)),
        memory_refuse_percent: resolve.count(
            "memory_refuse_percent",
            file.memory_refuse_percent.as_ref(),
            85,
            10..=100,
        ),
        memory_close_percent: resolve.count("memory_close_percent", file.memory_close_percent.as_ref(), 95, 10..=100),
        memory_interval: resolve.duration(file.memory_interval.as_ref(), "250ms"),
        memory_limit: file
            .memory_limit
            .as_ref()
            .map(|size| resolve.size_within(Some(size), 1 << 30, 1 << 20..=usize::MAX)),
        body_memory: file.body_memory.as_ref().map(|size| resolve.size(Some(size), 256 << 20)),
        auth_failures_per_second: small(count(resolve, "auth_failures_per_second", &file.auth_failures_per_second, 10)),
        auth_failures_burst: small(count(resolve, "auth_failures_burst", &file.auth_failures_burst, 50)),
        max_requests: count(resolve, "max_requests", &file.max_requests, 4096),
        max_requests_per_key: count(resolve, "max_requests_per_key", &file.max_requests_per_key, 256),
        max_lookups: resolve.count("max_lookups", file.max_lookups.as_ref(), 4, 1..=512),
        drain_timeout: resolve.duration(file.drain_timeout.as_ref(), "120s"),
        http2: http2(file.http2.as_ref(), resolve),
    };
    contradictions(file, &server, resolve);
    server
}

fn listen(file: &file::Server, resolve: &mut Resolve<'_, '_>) -> Vec<Listen> {
    let Some(written) = &file.listen else { return vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 4000)))] };
    let texts = match written.get_ref() {
        file::OneOrMany::One(text) => std::slice::from_ref(text),
        file::OneOrMany::Many(texts) => texts,
    };
    if texts.is_empty() {
        resolve.problems.add(written.span(), "listen is empty: name at least one address, such as \"127.0.0.1:4000\"");
    }
    let mut listen = Vec::with_capacity(texts.len());
    for text in texts {
        match text.parse::<Listen>() {
            Ok(place) if listen.contains(&place) => {
                resolve.problems.add(written.span(), format!("listen names {text:?} twice"));
            }
            Ok(place) => listen.push(place),
            Err(message) => resolve.problems.add(written.span(), message),
        }
    }
    listen
}

/// `"0660"`.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.bytes().all(|digit| digit.is_ascii_digit()) => Ok(mode),
        _ => Err(format!("{text:?} are no permissions: write them in octal, such as \"0660\"")),
    }
}

fn networks(file: &file::Server, resolve: &mut Resolve<'_, '_>) -> Vec<Network> {
    let written = file.trusted_proxies.iter().flatten();
    written.filter_map(|text| resolve.parse(Some(text), "", network)).collect()
}

/// `"10.0.0.0/8"`, or an address that stands for itself.
fn network(text: &str) -> Result<Network, String> {
    let wrong = || format!("{text:?} is no address or network, such as \"10.0.0.0/8\" or \"::1\"");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), |bits| bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong))?;
    let rest = match address {
        IpAddr::V4(address) => address.to_bits().checked_shl(bits.into()).unwrap_or(0) != 0,
        IpAddr::V6(address) => address.to_bits().checked_shl(bits.into()).unwrap_or(0) != 0,
    };
    if rest {
        return Err(format!("{text:?} has bits behind its first {bits}: which network is meant?"));
    }
    Ok(Network { address, bits })
}

fn tls(file: &Spanned<file::ServerTls>, resolve: &mut Resolve<'_, '_>) -> Option<ServerTls> {
    let file = file.get_ref();
    let folder = resolve.resolver.folder;
    let path = |text: &Spanned<String>| folder.join(text.get_ref());
    let client_auth = resolve.parse(file.client_auth.as_ref(), "required", |text| match text {
        "optional" => Ok(ClientAuth::Optional),
        "required" => Ok(ClientAuth::Required),
        _ => Err(format!("client_auth {text:?} is not known: expected \"optional\" or \"required\"")),
    })?;
    if let (Some(auth), None) = (&file.client_auth, &file.client_ca) {
        resolve.problems.add(auth.span(), "client_auth needs client_ca: whose certificates are accepted?");
    }
    let min_version = resolve.parse(file.min_version.as_ref(), "1.2", |text| match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err(format!("min_version {text:?} is not spoken: expected \"1.2\" or \"1.3\"")),
    })?;
    let client_ca = file.client_ca.as_ref().map(path);
    Some(ServerTls { cert: path(&file.cert), key: path(&file.key), client_ca, client_auth, min_version })
}

fn http2(file: Option<&file::ServerHttp2>, resolve: &mut Resolve<'_, '_>) -> Http2 {
    let default = file::ServerHttp2::default();
    let file = file.unwrap_or(&default);
    // What the frames of HTTP/2 have room for (RFC 9113 §6.5.2).
    let mut size = |size, default: u32, least: usize, most: usize| {
        u32::try_from(resolve.size_within(size, default as usize, least..=most)).unwrap_or(default)
    };
    let window = (1 << 31) - 1;
    Http2 {
        max_header_list_bytes: size(file.max_header_list_bytes.as_ref(), 16 << 10, 1 << 10, 1 << 20),
        max_frame_bytes: size(file.max_frame_bytes.as_ref(), 16 << 10, 16 << 10, (1 << 24) - 1),
        stream_window: size(file.stream_window.as_ref(), 256 << 10, 65_535, window),
        connection_window: size(file.connection_window.as_ref(), 1 << 20, 65_535, window),
        send_buffer: resolve.size(file.send_buffer.as_ref(), 64 << 10),
        max_streams: u32::try_from(resolve.count("max_streams", file.max_streams.as_ref(), 64, 1..=10_000))
            .unwrap_or(64),
        max_resets: resolve.count("max_resets", file.max_resets.as_ref(), 50, 1..=100_000),
        reset_window: resolve.duration(file.reset_window.as_ref(), "30s"),
        max_pending_resets: resolve.count("max_pending_resets", file.max_pending_resets.as_ref(), 20, 1..=100_000),
        max_error_resets: resolve.count("max_error_resets", file.max_error_resets.as_ref(), 64, 1..=100_000),
        idle_timeout: resolve.duration(file.idle_timeout.as_ref(), "120s"),
        ping_interval: resolve.duration(file.ping_interval.as_ref(), "20s"),
        ping_timeout: resolve.duration(file.ping_timeout.as_ref(), "10s"),
        stall_timeout: resolve.duration(file.stall_timeout.as_ref(), "60s"),
    }
}

/// Values that are fine alone and make no sense together.
fn contradictions(file: &file::Server, server: &Server, resolve: &mut Resolve<'_, '_>) {
    let mut refuse = |wrong: bool, place: Option<std::ops::Range<usize>>, message: &str| {
        if let (true, Some(place)) = (wrong, place) {
            resolve.problems.add(place, message);
        }
    };
    fn span<T>(value: &Option<Spanned<T>>) -> Option<std::ops::Range<usize>> {
        value.as_ref().map(Spanned::span)
    }
    let connections = server.max_connections.unwrap_or(usize::MAX);
    refuse(
        server.max_connections_per_address.is_some_and(|most| most > connections),
        span(&file.max_connections_per_address),
        "max_connections_per_address is over max_connections: one address could take them all",
    );
    refuse(
        server.max_unauthenticated.is_some_and(|most| most > connections),
        span(&file.max_unauthenticated),
        "max_unauthenticated is over max_connections",
    );
    refuse(
        server.head_timeout < server.first_byte_timeout,
        span(&file.head_timeout).or(span(&file.first_byte_timeout)),
        "head_timeout is under first_byte_timeout: a whole head takes longer than its first byte",
    );
    refuse(
        server.max_target_bytes > server.max_head_bytes,
        span(&file.max_target_bytes).or(span(&file.max_head_bytes)),
        "max_target_bytes is over max_head_bytes: the target is a part of the head",
    );
    let (bodies, memory) = (server.body_memory, server.memory_limit);
    refuse(
        bodies.zip(memory).is_some_and(|(bodies, memory)| bodies > memory),
        span(&file.body_memory),
        "body_memory is over memory_limit",
    );
    refuse(
        bodies.is_some_and(|bodies| bodies < server.body_bytes_max),
        span(&file.body_memory),
        "body_memory is under body_bytes_max: the largest body would never fit",
    );
    refuse(
        server.memory_refuse_percent > server.memory_close_percent,
        span(&file.memory_refuse_percent).or(span(&file.memory_close_percent)),
        "memory_refuse_percent is over memory_close_percent: what may not connect is not refused",
    );
    refuse(
        server.max_requests_per_key > server.max_requests,
        span(&file.max_requests_per_key),
        "max_requests_per_key is over max_requests",
    );
    refuse(
        server.http2.stream_window > server.http2.connection_window,
        file.http2.as_ref().and_then(|http2| span(&http2.stream_window).or(span(&http2.connection_window))),
        "stream_window is over connection_window: one stream could never use it",
    );
    refuse(
        server.h2c && server.tls.is_some(),
        span(&file.tls),
        "h2c is HTTP/2 without TLS, and there is TLS: clients choose HTTP/2 by ALPN there",
    );
}
