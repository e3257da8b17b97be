//! Mutated configurations against everything that reads one: `make fuzz`.

use std::path::Path;

use super::{Config, Environment, GOOD, files};
use crate::fuzz;

const PIECES: &[&[u8]] = &[
    b"\n",
    b"[",
    b"]",
    b"[[",
    b"]]",
    b"{",
    b"}",
    b"=",
    b",",
    b".",
    b"\"",
    b"'''",
    b"\"\"\"",
    b"\\",
    b"# ",
    b"\r",
    b"\0",
    "ä".as_bytes(),
    "\u{1f600}".as_bytes(),
    b"\xff",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"1e400",
    b"nan",
    b"true",
    b"\"0s\"",
    b"\"32MiB\"",
    b"\"18446744073709551615GiB\"",
    b"\"9999999999h\"",
    b"${NAME}",
    b"${NAME:-",
    b"os.environ/",
    b"{ file = \"/nothing\" }",
    b"{ credential = \"nothing\" }",
    b"https://",
    b"http://[::1]:99999/",
    b"\n[server]\n",
    b"\n[providers.q]\nkind = \"echo\"\n",
    b"\n[models.n]\ndeployments = [{ provider = \"q\" }]\n",
    b"\n[[keys]]\nname = \"l\"\nkey = \"${NAME}\"\n",
    b"\n[telemetry]\n",
    b"\n[[telemetry.export]]\nname = \"e\"\n",
    b"\n[admin]\n",
];

#[test]
fn mutated_configurations_are_read_or_refused_with_their_place() {
    let example = include_str!("../../../tollgate.example.toml");
    let uncommented: String =
        example.lines().map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n").collect();
    let starter = include_str!("../../cli/starter.toml");
    let cases: Vec<String> = files::CASES.iter().map(|(text, _)| format!("{text}{GOOD}")).collect();
    let mut corpus: Vec<&[u8]> = vec![example.as_bytes(), uncommented.as_bytes(), starter.as_bytes(), GOOD.as_bytes()];
    corpus.extend(cases.iter().map(String::as_bytes));
    let environment = Environment::of([
        ("NAME", "tg-0123456789abcdef"),
        ("OPENAI_API_KEY", "sk-canary"),
        ("OPENROUTER_API_KEY", "sk-canary"),
        ("TOLLGATE_KEY", "tg-0123456789abcdef-canary"),
        ("TOLLGATE_ADMIN_TOKEN", "tg-0123456789abcdef-canary"),
        ("OTLP_TOKEN", "canary"),
    ]);
    fuzz::run("configurations", &corpus, PIECES, |input, _| {
        // A file that is not UTF-8 is refused before it gets here.
        let text = String::from_utf8_lossy(input);
        match Config::parse(Path::new("t.toml"), &text, &environment) {
            Ok(loaded) => {
                let config = loaded.config;
                vec![format!("{} {} {}", config.providers.len(), config.models.len(), config.keys.len())]
            }
            Err(error) => {
                let error = error.to_string();
                let problems: Vec<&str> = error.lines().filter(|line| line.starts_with("t.toml:")).collect();
                assert!(error.starts_with("t.toml:"), "{error}");
                problems.into_iter().map(|problem| kind(problem, &text)).collect()
            }
        }
    });
}

/// What a problem is about, without what differs between two files of the same kind; its place has
/// to be one of the file.
fn kind(problem: &str, text: &str) -> String {
    let mut parts = problem.splitn(4, ':').skip(1);
    let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
    let (line, column) = (number(), number());
    let lines: Vec<&str> = text.split('\n').collect();
    let length = lines.get(line - 1).unwrap_or_else(|| panic!("no such line: {problem}")).chars().count();
    assert!((1..=length + 1).contains(&column), "no such column: {problem}");
    parts.next().unwrap().split(['`', '"', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).next().unwrap().to_owned()
}
