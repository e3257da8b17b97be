//! What happens around the gateway: name server, receiver, file descriptors, signals.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::plain;
use crate::cycle::Cycle;
use crate::http1::{Connection, ask, chat, connect_from};
use crate::load::Client;
use crate::process::{Gateway, KEY, PROVIDER_KEY, Start, TOKEN};
use crate::row::{Beside, Outcome, PLAIN, Row, Setup, Stage, ensure, leaked, mib, toml};
use crate::support::receiver::{Receiver, Version};
use crate::totals::Arrived;
use crate::wall::{self, End};

pub(super) fn rows() -> Vec<Row> {
    let alone = Setup { canary: Beside::Nothing, ..PLAIN };
    let traced = Setup { is_traced: true, ..PLAIN };
    let few = Setup { before: "ulimit -n 64", canary: Beside::Refusable, ..PLAIN };
    vec![
        Row { number: 38, is_star: false, title: "a silent name server", setup: alone, run: silent_name_server },
        plain(39, true, "a receiver of metrics in trouble", receiver_in_trouble),
        Row { number: 40, is_star: true, title: "64 file descriptors, 500 clients", setup: few, run: few_descriptors },
        Row { number: 41, is_star: true, title: "SIGTERM with 100 live streams", setup: alone, run: terminated },
        plain(42, true, "SIGHUP with broken configurations", broken_reloads),
        Row { number: 44, is_star: true, title: "secrets in logs, metrics, answers", setup: traced, run: secrets },
    ]
}

/// Answers every question for an IPv4 address with loopback, until it is told to be silent.
fn name_server(is_silent: Arc<AtomicBool>) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 77), 53))?;
    let serving = socket.try_clone()?;
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = serving.recv_from(&mut packet) {
            if is_silent.load(Relaxed) || length < 16 {
                continue;
            }
            let question_end = packet[12..length].iter().position(|byte| *byte == 0).map_or(length, |at| 12 + at + 5);
            let is_ipv4 = packet.get(question_end - 3) == Some(&1);
            let mut answer = packet[..question_end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
            if is_ipv4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
            }
            // Whoever asked asks again.
            serving.send_to(&answer, from).ok();
        }
    });
    Ok(socket)
}

fn silent_name_server(stage: &mut Stage<'_>) -> Outcome {
    let is_silent = Arc::new(AtomicBool::new(false));
    let server =
        name_server(Arc::clone(&is_silent)).map_err(|error| format!("no name server on 127.0.0.77:53: {error}"))?;
    let plain = toml(&stage.limits, &PLAIN, [&stage.first, &stage.second]);
    let port = stage.first.address.port();
    let named = plain.replacen(&format!("http://127.0.0.1:{port}"), &format!("http://known.example:{port}"), 1)
        + &format!(
            "[providers.new]\nbase_url = \"http://new.example:{port}/v1\"\ninsecure = true\n[models.new]\ndeployments = [{{ provider = \"new\" }}]\n"
        );
    let named = named.replacen("[providers.second]", "insecure = true\n[providers.second]", 1);
    let named = if named_is_accepted(stage.binary, &named) { named } else { named.replace("insecure = true\n", "") };
    // A mount namespace of its own, so that only this process sees this name server.
    let before = "printf 'nameserver 127.0.0.77\\noptions timeout:5 attempts:2\\n' >resolv.conf; printf 'hosts: files dns\\n' >nsswitch.conf\n\
        if [ -z \"$IN_MOUNTS\" ]; then IN_MOUNTS=1 exec unshare -m sh -c \"mount --bind resolv.conf /etc/resolv.conf; \
        mount --bind nsswitch.conf /etc/nsswitch.conf; exec \\\"\\$@\\\"\" sh taskset -c 0 \"$@\"; fi";
    let start = Start { binary: stage.binary, toml: &named, before, arguments: &[], environment: &[] };
    let gateway = Gateway::start(&start).map_err(|error| format!("not started in a mount namespace: {error}"))?;
    let status = |model: &str| {
        let began = Instant::now();
        ask(gateway.address, &chat(model, false, "ab12")).map(|answer| (answer.status, began.elapsed()))
    };
    let (known, _) = status("first")?;
    ensure(known == 200, || format!("with a name server: {known}\n{}", gateway.log()))?;
    is_silent.store(true, Relaxed);
    let began = Instant::now();
    // Beyond the 30 s for which an address is fresh, so that a stale one has to serve.
    let time = Duration::from_secs(if stage.limits.is_strict { 300 } else { 3 });
    let (mut asked, mut slowest, mut new) = (0, Duration::ZERO, Duration::ZERO);
    while began.elapsed() < time {
        let (stale, took) = status("first")?;
        ensure(stale == 200, || format!("{stale} after {:.0?}", began.elapsed()))?;
        (asked, slowest) = (asked + 1, slowest.max(took));
        if asked % 8 == 1 {
            let (status, took) = status("new")?;
            new = new.max(took);
            ensure(matches!(status, 502..=504), || format!("a new name: {status}"))?;
        }
        sleep(Duration::from_millis(500));
    }
    drop(server);
    let seen = format!(
        "{asked} answers in {time:?} of silence, the slowest in {slowest:.1?}; a new name: refused after {new:.1?}"
    );
    ensure(new <= Duration::from_millis(2_500), || seen.clone())?;
    ensure(slowest <= Duration::from_secs(3), || seen.clone())?;
    Ok(seen)
}

/// Whether the option is one; where it is not, plain HTTP needs no leave.
fn named_is_accepted(binary: &Path, toml: &str) -> bool {
    let path = std::env::temp_dir().join(format!("tollgate-faults-{}.toml", std::process::id()));
    let is_accepted = fs::write(&path, toml).is_ok()
        && Command::new(binary).arg("check").arg("-c").arg(&path).output().is_ok_and(|output| output.status.success());
    fs::remove_file(&path).ok();
    is_accepted
}

fn receiver_in_trouble(stage: &mut Stage<'_>) -> Outcome {
    use crate::gateway::Gateway;
    let receiver = Receiver::start(Version::V3_14);
    let interval = if stage.limits.is_strict { 100 } else { 200 };
    let intervals = stage.limits.many(1_000).min(1_000) as u32;
    let mut gateway = Gateway::start(stage.binary, &receiver.url(), interval).map_err(|error| error.to_string())?;
    let mut client = Client::connect(gateway.address, 2).map_err(|error| error.to_string())?;
    let rate = 100.0;
    let every = Duration::from_millis(interval);
    // Every trouble once, and what is touched for the first time.
    let mut cycle = Cycle::new(every * 6, every * 3);
    let beside = |client: &mut Client, cycle: &mut Cycle, time: Duration| {
        let end = Instant::now() + time;
        std::thread::scope(|scope| {
            scope.spawn(|| cycle.run(&receiver, end, |_| ()));
            client.run(rate, end);
        });
    };
    beside(&mut client, &mut cycle, every * 60);
    let before = gateway.memory().unwrap_or_default();
    beside(&mut client, &mut cycle, every * intervals);
    let growth = gateway.memory().unwrap_or_default().saturating_sub(before) * 1024;
    sleep(every * 3);
    let status = gateway.stop().map_err(|error| error.to_string())?;
    let messages: Vec<_> = receiver.requests().into_iter().filter_map(|request| request.message).collect();
    let wrong: Vec<String> = Arrived::from(&messages)
        .compare(&client.counts)
        .into_iter()
        .filter(|line| !line.agrees())
        .map(|line| format!("{}: {} instead of {}", line.what, line.receiver, line.client))
        .collect();
    let seen = format!("{intervals} intervals, {} requests; memory grew by {}", client.counts.requests, mib(growth));
    ensure(status.success(), || format!("{status}; {seen}"))?;
    ensure(client.counts.errors == 0, || format!("{:?}; {seen}", client.counts.first_error))?;
    ensure(wrong.is_empty(), || format!("{}; {seen}", wrong.join(", ")))?;
    ensure(growth <= 1 << 20 || !stage.limits.is_strict, || seen.clone())?;
    Ok(format!("{seen}; totals exact"))
}

fn few_descriptors(stage: &mut Stage<'_>) -> Outcome {
    let mut sockets = Vec::new();
    for number in 0..500 {
        if let Ok(socket) = connect_from(stage.gateway.address, 2 + (number % 4) as u8) {
            sockets.push(socket);
        }
    }
    sleep(Duration::from_millis(300));
    let (began, cpu) = (Instant::now(), stage.gateway.cpu());
    let answered = stage.scrape();
    let answered_in = began.elapsed();
    sleep(Duration::from_secs(2));
    let share = (stage.gateway.cpu() - cpu) / began.elapsed().as_secs_f64() * 100.0;
    let held = sockets.len();
    drop(sockets);
    let began = Instant::now();
    let mut recovered = None;
    while recovered.is_none() && began.elapsed() < Duration::from_secs(5) {
        recovered = stage.chat("first", false).is_ok_and(|answer| answer.status == 200).then(|| began.elapsed());
    }
    let seen =
        format!("{held} clients; admin answered in {answered_in:.1?}; {share:.0} % of CPU; well after {recovered:.1?}");
    ensure(stage.gateway.has_ended().is_none(), || format!("it ended; {seen}"))?;
    answered.map_err(|error| format!("admin: {error}; {seen}"))?;
    ensure(share < 20.0 || !stage.limits.is_strict, || seen.clone())?;
    ensure(recovered.is_some_and(|after| after <= Duration::from_secs(2)), || seen.clone())?;
    Ok(seen)
}

fn terminated(stage: &mut Stage<'_>) -> Outcome {
    let time = Duration::from_secs(if stage.limits.is_strict { 30 } else { 3 });
    stage.first.plan(move |seen, socket| {
        wall::stream_head(socket)?;
        for _ in 0..30 {
            wall::event(socket, &wall::delta(&wall::words(seen)))?;
            sleep(time / 30);
        }
        wall::finish(socket)?;
        Ok(End::Keep)
    });
    let address = stage.gateway.address;
    let streams: Vec<_> = (0..100)
        .map(|number| {
            std::thread::spawn(move || {
                let mut connection = Connection::open(address)?;
                let nonce = format!("s{number}");
                connection.send(&chat("first", true, &nonce)).map_err(|error| error.to_string())?;
                let answer = connection.answer_within(Duration::from_secs(60))?;
                let text = answer.text();
                let tokens = text.matches(&nonce).count();
                ensure(answer.is_whole && text.contains("[DONE]") && tokens == 30, || {
                    format!("{tokens} of 30, whole: {}", answer.is_whole)
                })
            })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(10);
    while stage.first.seen().len() < 100 && Instant::now() < end {
        sleep(Duration::from_millis(10));
    }
    stage.gateway.signal("TERM");
    let began = Instant::now();
    sleep(Duration::from_millis(500));
    let is_refusing = stage.chat("first", false).is_err();
    let broken: Vec<String> = streams.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect();
    let status = stage.gateway.wait(Duration::from_secs(5));
    let took = began.elapsed();
    let seen = format!("{} of 100 broken; exit {status:?} after {took:.1?}", broken.len());
    ensure(broken.is_empty(), || format!("{}; {seen}", broken[0]))?;
    ensure(is_refusing, || format!("new connections are served; {seen}"))?;
    ensure(status.is_some_and(|status| status.success()) && took <= time + Duration::from_secs(1), || seen.clone())?;
    second_signal(stage).map(|second| format!("{seen}; {second}"))
}

fn second_signal(stage: &Stage<'_>) -> Outcome {
    let toml = toml(&stage.limits, &PLAIN, [&stage.first, &stage.second]);
    let start = Start { binary: stage.binary, toml: &toml, before: "", arguments: &[], environment: &[] };
    let mut gateway = Gateway::start(&start).map_err(|error| error.to_string())?;
    let mut connection = Connection::open(gateway.address)?;
    connection.send(&chat("first", true, "ab12")).map_err(|error| error.to_string())?;
    sleep(Duration::from_millis(300));
    gateway.signal("TERM");
    sleep(Duration::from_millis(200));
    ensure(gateway.has_ended().is_none(), || "one signal ended it with a stream open".to_owned())?;
    gateway.signal("TERM");
    let began = Instant::now();
    let ended = gateway.wait(Duration::from_secs(3));
    ensure(ended.is_some() && began.elapsed() <= Duration::from_secs(1), || {
        format!("second signal: {:.1?}", began.elapsed())
    })?;
    Ok(format!("the second signal ended it in {:.0?}", began.elapsed()))
}

fn broken_reloads(stage: &mut Stage<'_>) -> Outcome {
    let path = stage.gateway.folder.join("tollgate.toml");
    let good = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let files = [
        good.clone() + "[[[\n",
        good.replacen("[server]\n", "[server]\ntls = { cert = \"missing.crt\", key = \"missing.key\" }\n", 1),
        good.clone() + "[[keys]]\nname = \"other\"\nkey = { file = \"unreadable\" }\n",
        good.replacen("[server]\n", "[server]\nno_such_option = 1\n", 1),
    ];
    let name = "tollgate_config_reloads_total";
    let rejected = |stage: &Stage<'_>| stage.metric(name, "rejected");
    let before = rejected(stage)?;
    let count = if stage.limits.is_strict { 50 } else { 12 };
    for number in 0..count {
        fs::write(&path, &files[number % files.len()]).map_err(|error| error.to_string())?;
        let so_far = rejected(stage)?;
        stage.gateway.signal("HUP");
        let end = Instant::now() + Duration::from_secs(3);
        while rejected(stage)? <= so_far && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
        let answer = stage.chat("first", number % 2 == 0)?;
        ensure(answer.status == 200 && answer.is_whole, || format!("after file {number}: {}", answer.status))?;
    }
    let counted = rejected(stage)? - before;
    let log = stage.gateway.log();
    fs::write(&path, &good).map_err(|error| error.to_string())?;
    for told in ["tollgate.toml", "missing.crt", "unreadable", "no_such_option"] {
        ensure(log.contains(told), || format!("nothing about {told} in the log:\n{log}"))?;
    }
    // Watching the file may find one of them, too.
    let seen = format!("{counted} counted as rejected of {count}");
    ensure(counted >= count as f64 && counted <= 2.0 * count as f64, || seen.clone())?;
    Ok(seen)
}

/// What of a text shows in base64, wherever in a group of three bytes it begins.
fn base64(text: &str) -> Vec<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let from = |begin: usize| -> String {
        let groups = text.as_bytes().get(begin..).unwrap_or_default().chunks_exact(3);
        groups
            .flat_map(|group| {
                let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
                [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift) as usize & 63]))
            })
            .collect()
    };
    (0..3).map(from).collect()
}

fn secrets(stage: &mut Stage<'_>) -> Outcome {
    let mut shown = Vec::new();
    for plan in 0..3 {
        stage.first.plan(move |seen, socket| match plan {
            0 => wall::answer(seen, socket),
            1 => {
                wall::json(socket, 500, "", r#"{"error":{"message":"no"}}"#)?;
                Ok(End::Keep)
            }
            _ => Ok(End::Reset),
        });
        for is_stream in [false, true] {
            shown.push(stage.chat("first", is_stream)?.text());
        }
    }
    for request in [
        format!("GET /v1/models HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}x\r\n\r\n"),
        format!("GET /{KEY} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nx-api-key: {KEY}\r\n\r\n"),
        format!("BAD {KEY}\r\n\r\n"),
    ] {
        // Some are closed without an answer.
        shown.extend(stage.ask(request.as_bytes()).map(|answer| answer.head + &String::from_utf8_lossy(&answer.body)));
    }
    shown.push(stage.scrape()?);
    if let Some(admin) = stage.gateway.admin {
        for path in ["/config", "/status.json"] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
            shown.push(ask(admin, request.as_bytes())?.text());
        }
    }
    shown.push(fs::read_to_string(format!("/proc/{}/cmdline", stage.gateway.id())).unwrap_or_default());
    shown.push(stage.gateway.log());
    let all = shown.join("\n");
    for secret in [KEY, TOKEN, PROVIDER_KEY] {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [secret.to_owned(), hex].into_iter().chain(base64(secret)) {
            ensure(!all.contains(&form), || format!("{secret} is shown as {form}"))?;
        }
    }
    ensure(leaked(stage).is_empty(), || leaked(stage).join(", "))?;
    Ok(format!("none in {} KiB of log at trace, metrics, answers", all.len() >> 10))
}
