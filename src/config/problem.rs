//! What is wrong in a file, and where.

use std::{fmt, ops::Range, path::Path};

use super::source::{Files, Seen};

/// Every problem found in one configuration.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<String>,
    /// What was read before it was found out.
    files: Vec<Seen>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n\n"))
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// With the files that were read.
    pub(super) fn about(self, files: Vec<Seen>) -> Self {
        Self { files, ..self }
    }

    /// The files that it is about, as they were when they were read.
    pub fn seen(self) -> Files {
        Files(self.files)
    }

    /// A problem of no place in a file.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self { problems: vec![message.into()], files: Vec::new() }
    }
}

/// Collects the problems of one file, so that one run shows them all.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    file: String,
    text: &'a str,
    found: Vec<(usize, String)>,
}

impl<'a> Problems<'a> {
    pub(super) fn of(file: &Path, text: &'a str) -> Self {
        Self { file: file.display().to_string(), text, found: Vec::new() }
    }

    /// Notes a problem with its place, as `file:line:column: message` and the line itself.
    pub(super) fn add(&mut self, span: Range<usize>, message: impl fmt::Display) {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_number = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let line = self.text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let line = if may_hold_secrets(before, line) { masked(line) } else { line.to_owned() };
        let width = self.text.get(span).unwrap_or_default().lines().next().unwrap_or_default().chars().count().max(1);
        let gutter = line_number.to_string();
        let space = " ".repeat(gutter.len());
        self.found.push((
            start,
            format!(
                "{}:{line_number}:{column}: {message}\n{space} |\n{gutter} | {line}\n{space} | {}{}",
                self.file,
                " ".repeat(column - 1),
                "^".repeat(width)
            ),
        ));
    }

    /// Whether there was any.
    pub(super) fn is_any(&self) -> bool {
        !self.found.is_empty()
    }

    /// `value`, if nothing was found.
    pub(super) fn unless_any<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort();
        Err(ConfigError { problems: self.found.into_iter().map(|(_, problem)| problem).collect(), files: Vec::new() })
    }
}

/// Whether a line, of which `before` comes before, may have a secret in it, misspelt or misplaced as it
/// may be: what is shown of it ends in logs.
fn may_hold_secrets(before: &str, line: &str) -> bool {
    const WORDS: [&str; 8] = ["key", "token", "sha256", "header", "secret", "auth", "passw", "cred"];
    let is_about = |text: &str| {
        let text = text.to_ascii_lowercase();
        WORDS.iter().any(|word| text.contains(word))
    };
    // In `[telemetry.headers]` the names are anybody's.
    let section = before.lines().rev().find(|line| line.trim_start().starts_with('['));
    is_about(line) || section.is_some_and(|section| section.to_ascii_lowercase().contains("headers"))
}

/// A line with stars in place of what is within quotes, closed or not; every character stays one.
fn masked(line: &str) -> String {
    let (mut quote, mut is_escaped) = (None, false);
    let star = |character: char| match quote {
        None => {
            quote = matches!(character, '"' | '\'').then_some(character);
            character
        }
        Some(_) if is_escaped => {
            is_escaped = false;
            '*'
        }
        Some('"') if character == '\\' => {
            is_escaped = true;
            '*'
        }
        Some(open) if character == open => {
            quote = None;
            character
        }
        Some(_) => '*',
    };
    line.chars().map(star).collect()
}

/// The name among `known` that `wrong` was most likely meant to be.
pub(super) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let nearest = known.into_iter().map(|name| (distance(wrong, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 2 && distance < name.len() => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let replace = row.get(j).copied().unwrap_or_default() + usize::from(a != *b);
            let delete = row.get(j + 1).copied().unwrap_or_default() + 1;
            let insert = next.last().copied().unwrap_or_default() + 1;
            next.push(replace.min(delete).min(insert));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_with_what_is_wrong() {
        let lines = [
            "api_key = \"canary",
            "apikey = \"canary\"",
            "api_key = { fil = \"canary\" }",
            "key = 'canary' x",
            "providers = { p = { base_url = 1, api_key = \"can\\\"canary\" } }",
            "token = \"\"\"canary\"\"\"",
            "headers = \"authorization=canary\"",
            "sha256 = \"canary\"",
            "[telemetry.headers]\nx-team = \"canary\"",
        ];
        for text in lines {
            let mut problems = Problems::of(Path::new("t.toml"), text);
            let at = text.find("canary").unwrap();
            problems.add(at..at + 6, "wrong");
            let shown = problems.unless_any(()).unwrap_err().to_string();
            assert!(!shown.contains("canary") && shown.contains("^^^^^^"), "{shown}");
        }
        // What is no secret is seen.
        let mut problems = Problems::of(Path::new("t.toml"), "listen = \"nowhere\"");
        problems.add(9..18, "wrong");
        assert!(problems.unless_any(()).unwrap_err().to_string().contains("nowhere"));
    }
}
