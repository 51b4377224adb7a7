//! Histograms as the HdrHistogram plotter reads them: percentiles, then a footer.

use hdrhistogram::Histogram;
use std::fmt::Write as _;
use std::path::Path;
use xswan_testkit::failure::Outcome;

/// Steps a halving of the distance to 100 %.
const STEPS: u32 = 5;
/// Values are kept in nanoseconds and written in microseconds.
const NS_PER_US: f64 = 1000.0;

/// Writes `histogram` to `path`.
pub fn write(path: &Path, histogram: &Histogram<u64>) -> Outcome<()> {
    std::fs::write(path, text(histogram))?;
    Ok(())
}

fn text(histogram: &Histogram<u64>) -> String {
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in histogram.iter_quantiles(STEPS) {
        let quantile = step.quantile_iterated_to();
        let inverse = if quantile < 1.0 {
            format!("{:14.2}", 1.0 / (1.0 - quantile))
        } else {
            "inf".to_owned()
        };
        let value = step.value_iterated_to() as f64 / NS_PER_US;
        let count = histogram.count_between(0, step.value_iterated_to());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{value:12.3} {quantile:14.12} {count:10} {inverse:>14}");
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_US, histogram.stdev() / NS_PER_US);
    let (max, total) = (histogram.max() as f64 / NS_PER_US, histogram.len());
    let _ = writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(out, "#[Max     = {max:12.3}, Total count    = {total:12}]");
    let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048);
    out
}

#[cfg(test)]
mod tests {
    use super::text;
    use hdrhistogram::Histogram;

    #[test]
    fn the_last_row_is_the_maximum_and_the_footer_follows() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        for value in 1..=1000u64 {
            histogram.record(value * 100).unwrap();
        }
        let text = text(&histogram);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("inf")).collect();
        assert_eq!(rows.len(), 1);
        assert!(rows[0].trim_start().starts_with("100."), "{text}");
        assert!(text.lines().any(|line| line.starts_with("#[Max") && line.contains("1000]")));
    }
}
