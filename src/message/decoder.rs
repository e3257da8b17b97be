//! A body's bytes out of what was read.

use bytes::Bytes;

use super::{arena, chunked::Chunked, framing::Framing};

/// What is left of a body to be read.
#[derive(Debug)]
pub enum Decoder {
    Length(u64),
    Chunked(Chunked),
    Close,
    /// Nothing more can be read, for this reason.
    Broken(&'static str),
}

impl Decoder {
    /// A body of which nothing has been read.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::new()),
            Framing::Close => Self::Close,
        }
    }

    /// Whether nothing more will come. A body that ends with its connection does not know.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_ended(),
            Self::Close | Self::Broken(_) => false,
        }
    }

    /// Why nothing more can be read, if that is so.
    pub fn broken(&self) -> Option<&'static str> {
        match self {
            Self::Broken(why) => Some(why),
            _ => None,
        }
    }

    /// What is known of the length that is left.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(chunked) => chunked.is_ended().then_some(0),
            Self::Close | Self::Broken(_) => None,
        }
    }

    /// A copy of the data in `input`, and how much of the input was read: all of it, unless the body
    /// ended before. Data in front of a mistake is given out first.
    pub fn decode(&mut self, input: &[u8]) -> Result<(Bytes, usize), &'static str> {
        match self {
            Self::Close => Ok((arena::copy(input), input.len())),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= length as u64;
                Ok((arena::copy(input.get(..length).unwrap_or_default()), length))
            }
            Self::Chunked(chunked) => {
                let mut read = Ok(0);
                let data = arena::fill(input.len(), |out| read = chunked.decode(input, out));
                if let Err(why) = read {
                    *self = Self::Broken(why);
                    if !data.is_empty() {
                        return Ok((data, input.len()));
                    }
                }
                Ok((data, read?))
            }
            Self::Broken(why) => Err(why),
        }
    }
}
