//! Documentation that is made from code stays equal to it.

#![expect(clippy::panic, reason = "a test says what is wrong by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const OPERATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
const TELEMETRY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/telemetry.md");

/// The text with `content` between two marker lines.
fn with_generated(text: &str, marker: &str, content: &str) -> String {
    let begin = format!("<!-- {marker}: begin, generated -->\n");
    let end = format!("<!-- {marker}: end -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("README.md lacks {begin:?}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README.md lacks {end:?}"));
    format!("{before}{begin}\n{}\n\n{end}{after}", content.trim_end())
}

fn error_table() -> String {
    let mut table =
        String::from("| `error.type` | status | `error.code` | try again | meaning |\n|---|---|---|---|---|\n");
    for kind in tollgate::api::error::ErrorKind::ALL {
        let face = kind.face();
        let retry = if face.retryable { "yes" } else { "no" };
        table +=
            &format!("| `{}` | {} | `{}` | {retry} | {} |\n", face.error_type, face.status, face.code, face.meaning);
    }
    table
}

/// Writes the README anew if a table has changed, and fails, so that the fix is to commit it.
#[test]
fn the_tables_of_the_readme_are_the_code() {
    let text = fs::read_to_string(README).unwrap();
    let expected = with_generated(&text, "metrics", &tollgate::telemetry::catalog::markdown());
    let expected = with_generated(&expected, "errors", &error_table());
    if expected != text {
        fs::write(README, expected).unwrap();
        panic!("README.md was out of date and has been written anew: commit it");
    }
}

/// Every configuration that the documentation shows is one that loads.
#[test]
fn the_configurations_of_the_documentation_load() {
    let minimal = "[providers.p]\nkind = \"echo\"\n[models.m]\ndeployments = [{ provider = \"p\" }]\n\
                   [[keys]]\nname = \"k\"\nkey = \"${TOLLGATE_KEY}\"\n";
    let credentials = concat!(env!("CARGO_TARGET_TMPDIR"), "/credentials");
    fs::create_dir_all(credentials).unwrap();
    for name in ["keys_openai", "keys_openrouter", "keys_team-a"] {
        fs::write(format!("{credentials}/{name}"), "tg-0123456789abcdefghij\n").unwrap();
    }
    let environment = tollgate::config::Environment::of([
        ("OPENROUTER_API_KEY", "sk-or-1"),
        ("OPENAI_API_KEY", "sk-1"),
        ("TOLLGATE_KEY", "tg-0123456789abcdefghij"),
        ("TOLLGATE_ADMIN_TOKEN", "tg-0123456789abcdefghij"),
        ("OTLP_TOKEN", "otlp-1"),
        ("VENDOR_KEY", "vendor-1"),
        ("CREDENTIALS_DIRECTORY", credentials),
    ]);
    for (path, least) in [(README, 3), (TELEMETRY, 3), (OPERATIONS, 1)] {
        let text = fs::read_to_string(path).unwrap();
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(blocks.len() >= least, "{path} has only {} configurations", blocks.len());
        for block in blocks {
            // Where it is about metrics, the rest is left out.
            let rest = if block.contains("[[keys]]") { "" } else { minimal };
            let loaded = tollgate::config::Config::parse(Path::new(path), &format!("{block}{rest}"), &environment);
            if let Err(error) = loaded {
                panic!("{error}\n{block}");
            }
        }
    }
}

/// The words of `text` that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "._".contains(character);
    let words = text.split(|character| !is_part(character)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.starts_with(prefix) && *word != prefix).collect()
}

/// Every variable that is read is documented, and every option, and nothing else.
#[test]
fn variables_and_options_are_documented() {
    let documented = fs::read_to_string(TELEMETRY).unwrap();
    let code: String = ["otel_env.rs", "destination.rs", "telemetry.rs"]
        .map(|file| fs::read_to_string(format!("{}/src/config/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap())
        .concat();
    assert!(words(&code, "OTEL_").len() > 30);
    assert_eq!(words(&documented, "OTEL_"), words(&code, "OTEL_"));

    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tollgate.example.toml")).unwrap();
    let (_, section) = example.split_once("\n[telemetry]\n").unwrap();
    let (section, _) = section.split_once("[[telemetry.export]]").unwrap();
    let option = |line: &str| line.strip_prefix("# ")?.split_once(" = ").map(|(key, _)| format!("telemetry.{key}"));
    let options: BTreeSet<String> = section.lines().filter_map(option).filter(|key| !key.contains(' ')).collect();
    let metrics = ["telemetry.export", "telemetry.md"];
    let named: BTreeSet<String> = words(&documented, "telemetry.").into_iter().map(str::to_owned).collect();
    let named: BTreeSet<String> = named.into_iter().filter(|word| !metrics.contains(&word.as_str())).collect();
    assert_eq!(named, options);
}

/// The options in the third column of a table.
fn third_column(table: &str) -> BTreeSet<&str> {
    let cells = table.lines().filter_map(|line| line.split('|').nth(3));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|option| !option.contains('…')).collect()
}

/// The fields of a table of the file.
fn fields<'a>(code: &'a str, table: &str) -> BTreeSet<&'a str> {
    let (_, fields) = code.split_once(&format!("struct {table} {{")).unwrap_or_default();
    let (fields, _) = fields.split_once("\n    }").unwrap_or_default();
    let names = fields.lines().filter_map(|line| Some(line.trim().strip_prefix("pub(super) ")?.split_once(':')?.0));
    let names: BTreeSet<&str> = names.collect();
    assert!(!names.is_empty(), "no fields of {table}");
    names
}

/// Every option of `[server]` and `[routing]`, and every limit of a provider, stands in the example and in the README's table of limits, and nothing
/// else does; those that are no limits are known by name.
#[test]
fn every_limit_of_the_server_is_in_the_readme() {
    const NO_LIMITS: [&str; 6] = ["listen", "unix_mode", "threads", "trusted_proxies", "tls", "h2c"];
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tollgate.example.toml")).unwrap();
    let (_, section) = example.split_once("\n[server]\n").unwrap();
    let (section, _) = section.split_once("\n[routing]").unwrap();
    let (mut prefix, mut options) = (String::new(), BTreeSet::new());
    for line in section.lines() {
        if let Some(name) = line.strip_prefix("[server.") {
            prefix = name.replace(']', ".");
        }
        if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && !key.contains(' ')
        {
            options.insert(format!("{prefix}{key}"));
        }
    }
    let code = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/file.rs")).unwrap();
    for (name, prefix) in [("Server", ""), ("ServerHttp2", "http2.")] {
        for field in fields(&code, name) {
            let option = format!("{prefix}{field}");
            assert!(option == "http2" || options.contains(&option), "tollgate.example.toml lacks server.{option}");
        }
    }
    let readme = fs::read_to_string(README).unwrap();
    let (_, limits) = readme.split_once("\n## Limits\n").unwrap();
    let (of_server, limits) = limits.split_once("Which deployments are tried").unwrap();
    let (of_routing, others) = limits.split_once("What else has a limit").unwrap();
    let expected: BTreeSet<&str> =
        options.iter().map(String::as_str).filter(|option| !NO_LIMITS.contains(option)).collect();
    assert_eq!(third_column(of_server), expected);
    assert_eq!(third_column(of_routing), fields(&code, "Routing"));
    let of_providers = fields(&code, "Provider");
    let limits = of_providers
        .iter()
        .filter(|field| field.contains("_timeout") || field.contains("max_") || field.contains("dns_"));
    assert_eq!(limits.clone().count(), 13);
    limits.for_each(|limit| assert!(others.contains(&format!("`{limit}`")), "README.md lacks {limit} of a provider"));
}
