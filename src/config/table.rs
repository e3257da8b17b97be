//! The values of the file by their keys: what is not known, missing or of another type is a problem
//! with its place, and does not hide the others.
//!
//! Not serde: what it makes of each table is 0.4 MB of the binary, and it stops at the first problem.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Problems, did_you_mean};

/// A table of named things, with the places of their names.
pub(super) type Named<T> = BTreeMap<Spanned<String>, T>;

/// A value as it stands in the file.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// What can be read from a value.
pub(super) trait Read: Sized {
    /// `None` after a problem.
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self>;
}

/// What a field of a table may be: optional, needed, or empty when it is missing.
pub(super) trait Field: Sized {
    /// `None` after a problem without which there is no table.
    fn field(key: &str, table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Self>;
}

/// A table whose keys are known.
pub(super) struct Table<'v, 't> {
    table: &'v DeTable<'t>,
    span: std::ops::Range<usize>,
}

impl<'v, 't> Table<'v, 't> {
    /// A value that has to be a table with no other keys than these.
    pub(super) fn of(value: &'v Value<'t>, keys: &[&str], expected: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else { return mismatch(value, expected, problems) };
        for key in table.keys().filter(|key| !keys.contains(&&**key.get_ref())) {
            problems.add(key.span(), unknown(key.get_ref(), keys));
        }
        Some(Self { table, span: value.span() })
    }

    fn get(&self, key: &str) -> Option<&'v Value<'t>> {
        self.table.iter().find(|(name, _)| **name.get_ref() == *key).map(|(_, value)| value)
    }
}

fn unknown(key: &str, keys: &[&str]) -> String {
    let known: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    let known = match &*known {
        [one] => format!("expected {one}"),
        [one, other] => format!("expected {one} or {other}"),
        known => format!("expected one of {}", known.join(", ")),
    };
    format!("unknown key `{key}`, {known}{}", did_you_mean(key, keys.iter().copied()))
}

fn mismatch<T>(value: &Value<'_>, expected: &str, problems: &mut Problems<'_>) -> Option<T> {
    // Not what it is: it may be a secret in the wrong place.
    let found = match value.get_ref() {
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Array(_) => "a list",
        DeValue::String(_) => "a string",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Table(_) => "a table",
    };
    problems.add(value.span(), format!("expected {expected}, not {found}"));
    None
}

impl<T: Read> Field for Option<T> {
    fn field(key: &str, table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Self> {
        Some(table.get(key).and_then(|value| T::read(value, problems)))
    }
}

impl<T: Read> Field for Spanned<T> {
    fn field(key: &str, table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Self> {
        match table.get(key) {
            Some(value) => Self::read(value, problems),
            None => {
                problems.add(table.span.clone(), format!("missing field `{key}`"));
                None
            }
        }
    }
}

impl<T: Read> Field for Vec<T> {
    fn field(key: &str, table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Self> {
        Some(table.get(key).and_then(|value| Self::read(value, problems)).unwrap_or_default())
    }
}

impl<T: Read> Field for Named<T> {
    fn field(key: &str, table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Self> {
        Some(table.get(key).and_then(|value| Self::read(value, problems)).unwrap_or_default())
    }
}

impl<T: Read> Read for Spanned<T> {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        Some(Self::new(value.span(), T::read(value, problems)?))
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let DeValue::Array(values) = value.get_ref() else { return mismatch(value, "a list", problems) };
        Some(values.iter().filter_map(|value| T::read(value, problems)).collect())
    }
}

impl<T: Read> Read for Named<T> {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else { return mismatch(value, "a table", problems) };
        let named = table.iter().filter_map(|(name, value)| {
            Some((Spanned::new(name.span(), name.get_ref().to_string()), T::read(value, problems)?))
        });
        Some(named.collect())
    }
}

impl Read for String {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => mismatch(value, "a string", problems),
        }
    }
}

impl Read for bool {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(is) => Some(*is),
            _ => mismatch(value, "true or false", problems),
        }
    }
}

impl Read for i64 {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match (integer(value.get_ref()), value.get_ref()) {
            (Some(number), _) => Some(number),
            (None, DeValue::Integer(_)) => {
                problems.add(value.span(), "the number does not fit into 64 bits");
                None
            }
            (None, _) => mismatch(value, "a whole number", problems),
        }
    }
}

impl Read for f64 {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            other => integer(other).map(|number| number as Self),
        };
        if number.is_none() { mismatch(value, "a number", problems) } else { number }
    }
}

/// A whole number that fits.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The same value as JSON.
pub(super) fn json(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(_) => integer(value).map_or(Json::Null, Json::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(is) => Json::Bool(*is),
        DeValue::Datetime(at) => Json::String(at.to_string()),
        DeValue::Array(values) => Json::Array(values.iter().map(|value| json(value.get_ref())).collect()),
        DeValue::Table(table) => table_json(table),
    }
}

/// The same table as JSON.
pub(super) fn table_json(table: &DeTable<'_>) -> Json {
    Json::Object(table.iter().map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref()))).collect())
}

/// Structs whose fields are the keys of tables.
macro_rules! tables {
    ($(
        $(#[doc = $doc:literal])*
        $(#[derive($default:ident)])?
        $(#[expecting = $expected:literal])?
        pub(super) struct $name:ident { $(pub(super) $field:ident: $type:ty,)* }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug $(, $default)?)]
        pub(super) struct $name { $(pub(super) $field: $type,)* }

        impl Read for $name {
            fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
                const EXPECTED: &[&str] = &[$($expected,)? "a table"];
                let table = Table::of(value, &[$(stringify!($field)),*], EXPECTED[0], problems)?;
                $(let $field = Field::field(stringify!($field), &table, problems);)*
                Some(Self { $($field: $field?,)* })
            }
        }

        $(impl Field for $name {
            fn field(key: &str, table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Self> {
                let section = Option::<Self>::field(key, table, problems)?;
                Some(section.unwrap_or_else(<Self as $default>::default))
            }
        })?
    )*};
}

pub(super) use tables;
