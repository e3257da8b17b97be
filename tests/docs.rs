//! Documentation that is made from code stays equal to it.

use std::fs;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// Replaces what stands between two marker lines; fails if that changed anything, so that the fix
/// is to commit the file this test has written.
fn generated(file: &str, marker: &str, content: &str) {
    let text = fs::read_to_string(file).unwrap();
    let begin = format!("<!-- {marker}: begin, generated -->\n");
    let end = format!("<!-- {marker}: end -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} lacks {begin:?}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} lacks {end:?}"));
    let expected = format!("{before}{begin}\n{}\n{end}{after}", content.trim_end().to_owned() + "\n");
    if expected != text {
        fs::write(file, expected).unwrap();
        panic!("{file} was out of date and has been written anew: commit it");
    }
}

#[test]
fn the_metric_table_is_the_catalog() {
    generated(README, "metrics", &tollgate::telemetry::catalog::markdown());
}

#[test]
fn the_error_table_is_the_code() {
    let mut table = String::from("| `error.type` | status | `error.code` | try again | meaning |\n|---|---|---|---|---|\n");
    for kind in tollgate::api::error::ErrorKind::ALL {
        let face = kind.face();
        let retry = if face.retryable { "yes" } else { "no" };
        table += &format!("| `{}` | {} | `{}` | {retry} | {} |\n", face.error_type, face.status, face.code, face.meaning);
    }
    generated(README, "errors", &table);
}
