//! Percentiles of a series of times.

use std::time::Duration;

use serde_json::{Value, json};

/// Times of one kind of exchange, in the order of measuring.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time below which `percent` of them lie, microseconds; 0 where there are none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }

    /// Median and tail, microseconds.
    pub fn json(&self) -> Value {
        json!({ "p50_us": self.percentile(50), "p99_us": self.percentile(99) })
    }
}
