//! Prometheus' text format 0.0.4, read strictly: what would be lost or misread fails the test.

use std::collections::BTreeMap;

/// Labels with the sample's name under `__name__`, as Prometheus has it.
pub(crate) type Labels = BTreeMap<String, String>;

/// Every sample of a whole exposition.
pub(crate) fn parse(text: &str) -> BTreeMap<Labels, f64> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    let mut samples = BTreeMap::new();
    let mut families: Vec<&str> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(!help.is_empty() && is_name(name, ":"), "{line}");
        assert!(!families.contains(&name), "the family {name} is there twice");
        families.push(name);
        let head = lines.next().unwrap_or_default();
        let kind = head.strip_prefix(&format!("# TYPE {name} ")).unwrap_or_else(|| panic!("{head:?} after {line:?}"));
        let mut own = BTreeMap::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (labels, value) = sample(line);
            assert!(own.insert(labels, value).is_none(), "a second sample of one series: {line}");
        }
        assert!(!own.is_empty(), "the family {name} has no samples");
        check(name, kind, &own);
        samples.extend(own);
    }
    samples
}

fn is_name(name: &str, also: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_' || also.contains(character))
}

/// One line: a name, labels, a value and nothing more.
fn sample(line: &str) -> (Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, ":"), "{line}");
    let mut labels = Labels::from([("__name__".to_owned(), name.to_owned())]);
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").expect(line);
            assert!(is_name(label, "") && !label.starts_with("__"), "{label:?} in {line}");
            let (value, after) = unquote(quoted).expect(line);
            assert!(!value.is_empty(), "an empty label in {line}");
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} is there twice in {line}");
            match after.split_at_checked(1) {
                Some((",", more)) => rest = more,
                Some(("}", end)) => {
                    rest = end;
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect(line);
    assert!(!value.contains(' '), "a timestamp in {line}");
    let number: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(number.is_finite(), "{line}");
    (labels, number)
}

/// A value up to its quotation mark, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            character => value.push(character),
        }
    }
    None
}

fn check(family: &str, kind: &str, samples: &BTreeMap<Labels, f64>) {
    let names = |suffixes: &[&str]| {
        for labels in samples.keys() {
            let suffix = labels["__name__"].strip_prefix(family);
            assert!(suffix.is_some_and(|suffix| suffixes.contains(&suffix)), "{labels:?} in {kind} {family}");
        }
    };
    match kind {
        "counter" => {
            names(&[""]);
            assert!(family.ends_with("_total"), "{family}");
            assert!(samples.values().all(|value| *value >= 0.0), "{samples:?}");
        }
        "gauge" => names(&[""]),
        "histogram" => {
            names(&["_bucket", "_sum", "_count"]);
            histograms(family, samples);
        }
        _ => panic!("{family} is a {kind}"),
    }
}

fn histograms(family: &str, samples: &BTreeMap<Labels, f64>) {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (labels, value) in samples {
        let mut labels = labels.clone();
        let is_bucket = labels["__name__"].ends_with("_bucket");
        let le = labels.remove("le");
        assert_eq!(le.is_some(), is_bucket, "{labels:?}");
        labels.remove("__name__");
        let of = buckets.entry(labels).or_default();
        of.extend(le.map(|le| (le.parse().unwrap(), *value)));
    }
    for (mut labels, mut buckets) in buckets {
        buckets.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let is_ascending = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        assert!(is_ascending && !buckets.is_empty(), "{labels:?}: {buckets:?}");
        let mut of = |suffix: &str| {
            labels.insert("__name__".to_owned(), format!("{family}{suffix}"));
            samples.get(&labels).copied()
        };
        let (count, sum) = (of("_count").unwrap(), of("_sum").unwrap());
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{family}");
        assert!(count > 0.0 || sum == 0.0, "{family}");
    }
}
