//! The rules of the house that no compiler checks: layers, sizes, module docs, one metric table.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test says what is wrong by panicking")]

use std::{fs, path::Path};

/// Modules by layer, lowest first. A module imports from layers below its own only.
const LAYERS: [&[&str]; 11] = [
    &["fuzz", "message", "sys"],
    &["api", "proto"],
    &["telemetry"],
    &["http_client"],
    &["config"],
    &["gateway"],
    &["routing"],
    &["export"],
    &["proxy"],
    &["server", "admin"],
    &["cli"],
];

/// Lines of a source file without its tests.
const LINES_MAX: usize = 400;

struct Source {
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.to_str().unwrap().to_owned(), text });
            }
        }
    }
    let mut found = Vec::new();
    let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    walk(Path::new(src), &mut found);
    for source in &mut found {
        source.path = source.path.strip_prefix(&format!("{src}/")).unwrap().to_owned();
    }
    assert!(found.len() >= 40, "visited only {} files", found.len());
    found
}

/// The lines before the tests at the foot of the file.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let is_test_file = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
    let lines = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.enumerate().take(if is_test_file { 0 } else { usize::MAX }).map(|(number, line)| (number + 1, line))
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn imports_go_strictly_down() {
    let mut edges = 0;
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.path.split(['/', '.']).next().unwrap();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let own = layer_of(module).unwrap_or_else(|| panic!("src/{} belongs to no layer", source.path));
        for used in used_modules(&source) {
            edges += 1;
            match layer_of(&used) {
                Some(layer) if layer < own || used == module => {}
                Some(_) => wrong.push(format!("src/{}: {module} imports {used}, which is not below it", source.path)),
                // The command line starts the program that lib.rs defines.
                None if module == "cli" => {}
                None => wrong.push(format!("src/{}: crate::{used} belongs to no layer", source.path)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(edges >= 50, "found only {edges} imports; did the parsing break?");
}

/// The top-level modules named by `crate::x` and by `use crate::{x, y::…}`.
fn used_modules(source: &Source) -> Vec<String> {
    let text: String = code(source).map(|(_, line)| line.to_owned() + "\n").collect();
    let mut used = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item, mut at_start) = (1, String::new(), true);
            for character in group.chars() {
                let ends = matches!(character, ':' | ',' | '}');
                if depth == 1 && at_start && ends && !item.is_empty() {
                    used.push(std::mem::take(&mut item));
                }
                match character {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => at_start = true,
                    ':' if depth == 1 => at_start = false,
                    _ if depth == 1 && at_start && (character.is_alphanumeric() || character == '_') => {
                        item.push(character)
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            used.push(rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect());
        }
    }
    used.retain(|name| name.starts_with(char::is_lowercase));
    used.sort();
    used.dedup();
    used
}

#[test]
fn the_lowest_layers_do_no_input_and_output() {
    for source in sources() {
        if !(source.path.starts_with("api/") || source.path.starts_with("telemetry/")) {
            continue;
        }
        for (number, line) in code(&source) {
            for word in ["tokio::", "hyper::", "std::net", "std::fs", "std::io"] {
                assert!(!line.contains(word), "src/{}:{number} uses {word}", source.path);
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_own() {
    for source in sources() {
        let lines = code(&source).count();
        assert!(lines <= LINES_MAX, "src/{} has {lines} lines before its tests; the cap is {LINES_MAX}", source.path);
        assert!(source.text.starts_with("//! "), "src/{} does not open with what it owns (`//! `)", source.path);
    }
}

#[test]
fn metric_names_stand_in_the_catalog_only() {
    let names: Vec<String> =
        tollgate::telemetry::catalog::CATALOG.iter().map(|metric| format!("\"{}\"", metric.name)).collect();
    assert!(names.len() >= 30);
    for source in sources() {
        if source.path == "telemetry/catalog.rs" {
            continue;
        }
        for (number, line) in code(&source) {
            for name in &names {
                assert!(!line.contains(name), "src/{}:{number} spells {name}; use the catalog", source.path);
            }
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for source in sources() {
        for (number, line) in code(&source) {
            for mark in ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX"] {
                assert!(!line.contains(mark), "src/{}:{number}: {mark}", source.path);
            }
        }
    }
}
