//! Figures, one a line, with their ratio to the limit.

use crate::contender::Who;

/// Prints each figure as soon as it is known.
pub(crate) struct Table {
    /// Whether dinit is measured too.
    pub(crate) rival: bool,
}

impl Table {
    pub(crate) fn new(rival: bool) -> Self {
        print!("{:<52} {:>12} {:>12} {:>7}", "figure", "supervisor", "C loop", "ratio");
        println!(
            "{}",
            if rival { format!(" {:>12} {:>7}", "dinit", "ratio") } else { String::new() }
        );
        Self { rival }
    }

    /// Who is measured, in the order of the columns.
    pub(crate) fn contenders(&self) -> impl Iterator<Item = Who> + use<> {
        let rival = self.rival.then_some(Who::Dinit);
        [Who::Ours, Who::Limit].into_iter().chain(rival)
    }

    /// One figure: ours, the limit's, and dinit's; ratios are to the limit.
    pub(crate) fn row(&self, what: &str, unit: &str, figures: [Option<f64>; 3]) {
        let digits = if unit == "ms" { 2 } else { 0 };
        let [ours, limit, dinit] = figures;
        let text = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$} {unit}"))
        };
        let ratio = |value: Option<f64>| match (value, limit) {
            (Some(value), Some(limit)) if limit > 0.0 => format!("{:.2}", value / limit),
            _ => "-".to_owned(),
        };
        print!("{what:<52} {:>12} {:>12} {:>7}", text(ours), text(limit), ratio(ours));
        if self.rival {
            print!(" {:>12} {:>7}", text(dinit), ratio(dinit));
        }
        println!();
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

/// The middle value; not a number without any.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    percentile(&mut values, 0.5)
}
