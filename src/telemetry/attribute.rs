//! Attributes of a series: fixed ones from the configuration, varying ones from closed enums.
//!
//! A varying attribute is a [`Dimension`]: its value is an array index when it is recorded and
//! text only when a series is first created. No value a client or provider controls gets here.

use std::borrow::Cow;

/// One attribute of a series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attribute {
    pub key: &'static str,
    pub value: Value,
}

/// The attribute types that every receiver keeps apart or prints alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    Text(Cow<'static, str>),
    Int(i64),
    Bool(bool),
}

impl Attribute {
    /// An attribute whose value is known when the program is built.
    pub const fn text(key: &'static str, value: &'static str) -> Self {
        Self { key, value: Value::Text(Cow::Borrowed(value)) }
    }

    /// An attribute whose value comes from the configuration.
    pub fn owned(key: &'static str, value: impl Into<String>) -> Self {
        Self { key, value: Value::Text(Cow::Owned(value.into())) }
    }

    /// An integer attribute, such as a port or a status.
    pub const fn int(key: &'static str, value: i64) -> Self {
        Self { key, value: Value::Int(value) }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Bool(truth) => truth.fmt(f),
        }
    }
}

/// A closed set of attribute values, numbered `0..COUNT`.
pub trait Dimension: Copy {
    /// How many values there are.
    const COUNT: usize;

    /// The number of this value, below [`Self::COUNT`].
    fn index(self) -> usize;

    /// Appends the attributes of value number `index`.
    fn attributes(index: usize, out: &mut Vec<Attribute>);
}

impl Dimension for () {
    const COUNT: usize = 1;

    fn index(self) -> usize {
        0
    }

    fn attributes(_: usize, _: &mut Vec<Attribute>) {}
}

impl<A: Dimension, B: Dimension> Dimension for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        A::attributes(index / B::COUNT, out);
        B::attributes(index % B::COUNT, out);
    }
}

/// Declares an enum whose variants are the values of one attribute.
macro_rules! attribute_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident: $key:literal { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every value, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value of the attribute.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl $crate::telemetry::Dimension for $name {
            const COUNT: usize = Self::ALL.len();

            fn index(self) -> usize {
                self as usize
            }

            fn attributes(index: usize, out: &mut Vec<$crate::telemetry::Attribute>) {
                if let Some(value) = Self::ALL.get(index) {
                    out.push($crate::telemetry::Attribute::text($key, value.as_str()));
                }
            }
        }
    };
}
pub(crate) use attribute_enum;
