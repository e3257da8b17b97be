//! The SDK's instruments for the metrics of a workload.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    BoundCounter, BoundHistogram, BoundUpDownCounter, Counter, Histogram, MeterProvider, UpDownCounter,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::workload::{Kind, Metric, Series, Value};

/// One instrument for each metric. Floats only where the metric needs them: integers are faster.
pub(crate) struct Instruments(Vec<Instrument>);

#[derive(Clone)]
enum Instrument {
    Counter(Counter<u64>),
    UpDownCounter(UpDownCounter<i64>),
    Whole(Histogram<u64>),
    Float(Histogram<f64>),
}

/// An instrument with the attributes of one series.
pub(crate) struct Call {
    instrument: Instrument,
    attributes: Vec<KeyValue>,
}

/// The same, looked up beforehand.
pub(crate) enum Bound {
    Counter(BoundCounter<u64>),
    UpDownCounter(BoundUpDownCounter<i64>),
    Whole(BoundHistogram<u64>),
    Float(BoundHistogram<f64>),
}

impl Instruments {
    pub(crate) fn new(provider: &SdkMeterProvider, metrics: &[Metric]) -> Self {
        let meter = provider.meter("tollgate");
        let instruments = metrics.iter().map(|metric| {
            let (name, unit, description) = (metric.name.clone(), metric.unit.clone(), metric.description.clone());
            match &metric.kind {
                Kind::Counter => {
                    Instrument::Counter(meter.u64_counter(name).with_unit(unit).with_description(description).build())
                }
                Kind::UpDownCounter => Instrument::UpDownCounter(
                    meter.i64_up_down_counter(name).with_unit(unit).with_description(description).build(),
                ),
                Kind::Histogram(bounds) => {
                    let bounds = bounds.clone();
                    if metric.is_float {
                        let builder = meter.f64_histogram(name).with_unit(unit).with_description(description);
                        Instrument::Float(builder.with_boundaries(bounds).build())
                    } else {
                        let builder = meter.u64_histogram(name).with_unit(unit).with_description(description);
                        Instrument::Whole(builder.with_boundaries(bounds).build())
                    }
                }
            }
        });
        Self(instruments.collect())
    }

    pub(crate) fn call(&self, series: &Series) -> Call {
        let attributes = series.attributes.iter().map(|(key, value)| match value {
            Value::Text(text) => KeyValue::new(key.clone(), text.clone()),
            Value::Int(number) => KeyValue::new(key.clone(), *number),
            Value::Bool(truth) => KeyValue::new(key.clone(), *truth),
        });
        Call { instrument: self.0[series.metric].clone(), attributes: attributes.collect() }
    }
}

impl Call {
    pub(crate) fn record(&self, value: f64) {
        match &self.instrument {
            Instrument::Counter(counter) => counter.add(value as u64, &self.attributes),
            Instrument::UpDownCounter(counter) => counter.add(value as i64, &self.attributes),
            Instrument::Whole(histogram) => histogram.record(value as u64, &self.attributes),
            Instrument::Float(histogram) => histogram.record(value, &self.attributes),
        }
    }

    pub(crate) fn bind(&self) -> Bound {
        match &self.instrument {
            Instrument::Counter(counter) => Bound::Counter(counter.bind(&self.attributes)),
            Instrument::UpDownCounter(counter) => Bound::UpDownCounter(counter.bind(&self.attributes)),
            Instrument::Whole(histogram) => Bound::Whole(histogram.bind(&self.attributes)),
            Instrument::Float(histogram) => Bound::Float(histogram.bind(&self.attributes)),
        }
    }
}

impl Bound {
    pub(crate) fn record(&self, value: f64) {
        match self {
            Self::Counter(counter) => counter.add(value as u64),
            Self::UpDownCounter(counter) => counter.add(value as i64),
            Self::Whole(histogram) => histogram.record(value as u64),
            Self::Float(histogram) => histogram.record(value),
        }
    }
}
