//! What an answer costs, in whole nano-USD.
//!
//! Integers all the way: sums of them lose nothing, and no count a provider sends can overflow.

use super::usage::Usage;

/// What one USD is in the unit that is counted.
const NANOS_PER_USD: f64 = 1e9;

/// No answer counts for more than 1,000 USD: one absurd number would spoil a counter for ever.
pub const ANSWER_USD_MAX: f64 = 1e3;
const ANSWER_NANOS_MAX: u64 = 1_000_000_000_000;

/// What tokens cost at one deployment, in nano-USD per million tokens: 0.075 USD per million is
/// 75,000,000 here and 75 for a token, so prices are exact to the billionth of a USD per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
}

impl Price {
    /// The cost of an answer in nano-USD, rounded once, half up; at most [`ANSWER_USD_MAX`].
    ///
    /// Cache tokens are part of input and have prices of their own.
    pub fn of(&self, usage: &Usage) -> u64 {
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        let parts = [
            (usage.input.saturating_sub(cached), self.input),
            (usage.cache_read, self.cache_read),
            (usage.cache_write, self.cache_write),
            (usage.output, self.output),
        ];
        let parts = parts.map(|(tokens, price)| u128::from(tokens) * u128::from(price));
        let of_million = parts.into_iter().fold(0, u128::saturating_add);
        let nanos = of_million.saturating_add(500_000) / 1_000_000;
        u64::try_from(nanos).unwrap_or(u64::MAX).min(ANSWER_NANOS_MAX)
    }
}

/// USD as nano-USD, rounded to the nearest; `None` for what is no number from 0 to `usd_max`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
pub fn nanos(usd: f64, usd_max: f64) -> Option<u64> {
    (0.0..=usd_max).contains(&usd).then_some((usd * NANOS_PER_USD).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0.15, 0.60, 0.075 and 0.1875 USD per million tokens.
    const PRICE: Price =
        Price { input: 150_000_000, output: 600_000_000, cache_read: 75_000_000, cache_write: 187_500_000 };

    #[test]
    fn costs_are_exact() {
        let usage = |input, output, cache_read, cache_write| Usage {
            input,
            output,
            cache_read,
            cache_write,
            ..Usage::default()
        };
        let rows = [
            (usage(0, 0, 0, 0), 0),
            (usage(1, 0, 0, 0), 150),
            (usage(0, 1, 0, 0), 600),
            (usage(1_000_000, 1_000_000, 0, 0), 750_000_000),
            (usage(10, 7, 4, 2), 4 * 150 + 4 * 75 + 375 + 7 * 600),
            // 187.5 is rounded up, and two of them are rounded together.
            (usage(1, 0, 0, 1), 188),
            (usage(2, 0, 0, 2), 375),
            // More from the cache than there was: nothing is paid for less than nothing.
            (usage(1, 0, 4, 0), 300),
            (usage(u64::MAX, u64::MAX, 0, 0), ANSWER_NANOS_MAX),
            (usage(0, 0, u64::MAX, u64::MAX), ANSWER_NANOS_MAX),
        ];
        for (usage, nanos) in rows {
            assert_eq!(PRICE.of(&usage), nanos, "{usage:?}");
        }
        let most = Price { input: u64::MAX, output: u64::MAX, cache_read: u64::MAX, cache_write: u64::MAX };
        assert_eq!(most.of(&usage(u64::MAX, u64::MAX, u64::MAX, u64::MAX)), ANSWER_NANOS_MAX);
        let free = Price { input: 0, output: 0, cache_read: 0, cache_write: 0 };
        assert_eq!(free.of(&usage(u64::MAX, u64::MAX, 0, 0)), 0);
    }

    #[test]
    fn amounts_are_sane_or_none() {
        for (usd, expected) in [
            (0.0, Some(0)),
            (-0.0, Some(0)),
            (0.075, Some(75_000_000)),
            (0.000_12, Some(120_000)),
            (4e-10, Some(0)),
            (6e-10, Some(1)),
            (1e3, Some(ANSWER_NANOS_MAX)),
            (1_000.000_001, None),
            (-1e-300, None),
            (1e308, None),
            (f64::INFINITY, None),
            (f64::NEG_INFINITY, None),
            (f64::NAN, None),
        ] {
            assert_eq!(nanos(usd, ANSWER_USD_MAX), expected, "{usd}");
        }
    }
}
