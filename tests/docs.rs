//! Documentation that is made from code stays equal to it.

#![expect(clippy::panic, reason = "a test says what is wrong by panicking")]

use std::fs;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

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

/// Every configuration that the README shows is one that loads.
#[test]
fn the_configurations_of_the_readme_load() {
    let text = fs::read_to_string(README).unwrap();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 3, "found only {} configurations", blocks.len());
    let environment = tollgate::config::Environment::of([
        ("OPENROUTER_API_KEY", "sk-or-1"),
        ("OPENAI_API_KEY", "sk-1"),
        ("TOLLGATE_KEY", "tg-0123456789abcdefghij"),
    ]);
    for block in blocks {
        if let Err(error) = tollgate::config::Config::parse(std::path::Path::new("README.md"), block, &environment) {
            panic!("{error}\n{block}");
        }
    }
}
