//! What is wrong in a file, and where.

use std::{fmt, ops::Range, path::Path};

/// Every problem found in one configuration.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n\n"))
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// A problem of no place in a file.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self { problems: vec![message.into()] }
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

    /// `value`, if nothing was found.
    pub(super) fn unless_any<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort();
        Err(ConfigError { problems: self.found.into_iter().map(|(_, problem)| problem).collect() })
    }
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
