//! What testssl.sh finds in TLS as the gateway has it by default: nothing that is not explained here.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    https::Https,
    peers::{TESTSSL, peers},
};

/// Findings above LOW that are right as they are.
const EXPLAINED: [(&str, &str); 5] = [
    ("cert_chain_of_trust", "the certificate of this test signs itself"),
    ("cert_revocation", "and nobody can revoke it"),
    ("cert_validityPeriod", "and it is for ever"),
    ("cipher_order", "all suites are strong, and the client knows whether its processor has AES"),
    (
        "sessionresumption_ticket",
        "testssl leaves a connection of TLS 1.3 before its ticket comes; OpenSSL resumes below",
    ),
];

/// What has to be there, so that a run that ended early is not taken for a good one.
const NEEDED: [(&str, &str); 31] = [
    ("SSLv2", "not offered"),
    ("SSLv3", "not offered"),
    ("TLS1", "not offered"),
    ("TLS1_1", "not offered"),
    ("TLS1_2", "offered"),
    ("TLS1_3", "offered"),
    ("ALPN_HTTP2", "h2"),
    ("cipherlist_NULL", "not offered"),
    ("cipherlist_aNULL", "not offered"),
    ("cipherlist_EXPORT", "not offered"),
    ("cipherlist_LOW", "not offered"),
    ("cipherlist_3DES_IDEA", "not offered"),
    ("cipherlist_AVERAGE", "not offered"),
    ("TLS_timestamp", "random"),
    ("heartbleed", "not vulnerable"),
    ("CCS", "not vulnerable"),
    ("ticketbleed", "not vulnerable"),
    ("ROBOT", "not vulnerable"),
    ("secure_renego", "supported"),
    ("secure_client_renego", ""),
    ("CRIME_TLS", "not vulnerable"),
    ("BREACH", "not vulnerable"),
    ("POODLE_SSL", "not vulnerable"),
    ("fallback_SCSV", "no protocol below TLS 1.2"),
    ("SWEET32", "not vulnerable"),
    ("FREAK", "not vulnerable"),
    ("DROWN", "not vulnerable"),
    ("LOGJAM", "not vulnerable"),
    ("BEAST", "not vulnerable"),
    ("LUCKY13", "not vulnerable"),
    ("RC4", "not vulnerable"),
];

#[test]
fn testssl_finds_nothing_in_the_default_settings() {
    let Some([peer]) = peers([TESTSSL]) else { return };
    let https = Https::start(1 << 20);
    let file = https.folder.path().join("findings.json");
    let (_, port) = https.tollgate.address.rsplit_once(':').unwrap();
    let mut command = Command::new(peer.join("testssl"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "dumb").stdin(Stdio::null());
    // Protocols, ciphers, forward secrecy, preferences, defaults, vulnerabilities; nobody is asked for names.
    command.args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1"]);
    command.args(["-p", "-s", "-f", "-P", "-S", "-U", "--jsonfile"]).arg(&file).arg(format!("localhost:{port}"));
    // Its status counts what it could not do, too: the findings say more.
    let printed = String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
    let findings = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let findings: Vec<Value> = serde_json::from_str(&findings).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();

    let bad: Vec<&Value> = findings
        .iter()
        .filter(|finding| !["OK", "INFO", "LOW"].contains(&&*text(finding, "severity")))
        .filter(|finding| EXPLAINED.iter().all(|(id, _)| text(finding, "id") != *id))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}\n{printed}");
    for (id, due) in NEEDED {
        let found = findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id}: {printed}"));
        assert!(text(found, "finding").starts_with(due), "{found}");
    }
    // Called PFS before version 3.2.
    let ciphers = findings.iter().find(|finding| text(finding, "id").ends_with("FS_ciphers")).unwrap();
    let ciphers = text(ciphers, "finding");
    for cipher in ciphers.split_whitespace() {
        let exchange = cipher.starts_with("TLS_") || cipher.starts_with("ECDHE-");
        assert!(exchange && (cipher.contains("GCM") || cipher.contains("CHACHA20")), "{ciphers}");
    }
    https.stop();
}

#[test]
fn openssl_resumes_its_sessions() {
    // Comes with testssl, which needs it.
    let Some(_) = peers([TESTSSL]) else { return };
    let https = Https::start(1 << 20);
    let session = https.folder.path().join("session.pem");
    let request = https.folder.file("request", "GET /healthz HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n");
    for (option, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        for (with, due) in [("-sess_out", "New"), ("-sess_in", "Reused")] {
            let mut command = Command::new("openssl");
            command.args(["s_client", "-ign_eof", option, "-connect", &https.tollgate.address, with]).arg(&session);
            let output = command.stdin(File::open(&request).unwrap()).output().unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(printed.contains("HTTP/1.1 200 OK"), "{printed}");
            assert!(printed.contains(&format!("\n{due}, {version}, Cipher is ")), "{printed}");
        }
    }
    https.stop();
}
