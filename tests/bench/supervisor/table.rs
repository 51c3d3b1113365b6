//! Figures, one a line, with their ratio to the limit.

/// Prints each figure as soon as it is known.
pub(crate) struct Table {
    _private: (),
}

impl Table {
    pub(crate) fn new() -> Self {
        println!("{:<52} {:>12} {:>12} {:>7}", "figure", "supervisor", "C loop", "ratio");
        Self { _private: () }
    }

    /// One figure; without a limit there is no ratio.
    #[expect(clippy::unused_self, reason = "the head line comes first")]
    pub(crate) fn row(&mut self, what: &str, unit: &str, ours: f64, limit: Option<f64>) {
        let digits = if unit == "ms" { 2 } else { 0 };
        let text = |value: f64| format!("{value:.digits$} {unit}");
        let (limit_text, ratio) = match limit {
            Some(limit) if limit > 0.0 => (text(limit), format!("{:.2}", ours / limit)),
            Some(limit) => (text(limit), "-".into()),
            None => ("-".into(), "-".into()),
        };
        println!("{what:<52} {:>12} {limit_text:>12} {ratio:>7}", text(ours));
    }
}

/// The value below which this share of all lies.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = (last as f64 * share).round() as usize;
    values[index.min(last)]
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}
