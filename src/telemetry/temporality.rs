//! Whether a point covers the time since start or since the last export.

use super::catalog::Kind;

/// What a receiver prefers (`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temporality {
    /// Everything since the start of the series.
    #[default]
    Cumulative,
    /// Counters and histograms since the last export that the receiver took.
    Delta,
    /// As [`Self::Delta`], but what is only observed, such as CPU time, is cumulative.
    LowMemory,
}

impl Temporality {
    /// Its name in the configuration and in the specification's variable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cumulative => "cumulative",
            Self::Delta => "delta",
            Self::LowMemory => "lowmemory",
        }
    }

    /// The preference of that name, in any case.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Cumulative, Self::Delta, Self::LowMemory]
            .into_iter()
            .find(|preference| preference.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether metrics of this kind are exported as differences (OTLP exporter specification, table
    /// of temporality preferences).
    pub const fn is_delta(self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Cumulative, _) | (_, Kind::UpDownCounter | Kind::Gauge) => false,
            (Self::Delta | Self::LowMemory, Kind::Counter | Kind::Histogram(_))
            | (Self::Delta, Kind::ObservableCounter) => true,
            (Self::LowMemory, Kind::ObservableCounter) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_specification() {
        let kinds = [Kind::Counter, Kind::ObservableCounter, Kind::UpDownCounter, Kind::Gauge, Kind::Histogram(&[])];
        let row = |preference: Temporality| kinds.map(|kind| preference.is_delta(kind));
        assert_eq!(row(Temporality::Cumulative), [false; 5]);
        assert_eq!(row(Temporality::Delta), [true, true, false, false, true]);
        assert_eq!(row(Temporality::LowMemory), [true, false, false, false, true]);
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(Temporality::of("Delta"), Some(Temporality::Delta));
        assert_eq!(Temporality::of("LOWMEMORY"), Some(Temporality::LowMemory));
        assert_eq!(Temporality::of("delta "), None);
    }
}
