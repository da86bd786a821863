//! The figures: what each must be, what it is, and the table of both.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::samples::Samples;

/// The most that figures may be.
const MOST: [(&str, f64); 24] = [
    ("create_volume_p50_ratio", 1.0),
    ("delete_volume_p50_ratio", 1.0),
    ("burst_100_create_ratio", 0.8),
    ("stage_fresh_ratio", 1.0),
    ("lvm_processes_publish", 0.0),
    ("lvm_processes_unpublish", 0.0),
    ("lvm_processes_stats", 0.0),
    ("lvm_processes_capacity", 0.0),
    ("lvm_processes_list", 0.0),
    ("rss_500_mib", 16.0),
    ("binary_mib", 15.0),
    ("route_p99_ms_5000", 5.0),
    ("capacity_p99_ms_5000", 5.0),
    ("rss_mib_5000", 300.0),
    ("burst_100_create_s", 40.0),
    ("driver_api_writes_per_volume", 0.0),
    ("thin_create_ratio", 1.0),
    ("thin_snapshot_ratio", 1.0),
    ("thin_clone_ratio", 1.0),
    ("thin_restore_ready_ratio", 2.0),
    ("capacity_p99_ms", 2.0),
    ("list_snapshots_p99_ms", 20.0),
    ("lvm_processes_idle_per_min", 0.0),
    ("rss_mib", 24.0),
];
/// The least that figures may be. Those in neither list are only reported.
const LEAST: [(&str, f64); 1] = [("copy_rate_ratio", 0.9)];

/// What a figure must be, and whether that is the least.
fn limit(key: &str) -> (Option<f64>, bool) {
    let within = |limits: &[(&str, f64)]| limits.iter().find(|(name, _)| *name == key).map(|(_, limit)| *limit);
    match within(&LEAST) {
        Some(least) => (Some(least), true),
        None => (within(&MOST), false),
    }
}

/// One figure. Of a ratio the spread is that of the ratios of neighbouring measurements, else that of the value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The most that it may be, or the least; without it, it is only reported.
    pub must: Option<f64>,
    /// Whether it is the least.
    #[serde(default, skip_serializing_if = "is_false")]
    pub at_least: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_ours_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_bare_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    pub n: usize,
}

impl Figure {
    fn result(&self) -> Option<f64> {
        self.ratio.or(self.value)
    }

    fn is_met(&self) -> Option<bool> {
        let (result, must) = (self.result()?, self.must?);
        Some(if self.at_least { result >= must } else { result <= must })
    }

    fn verdict(&self) -> &'static str {
        match (self.result(), self.is_met()) {
            (None, _) => "not measured",
            (Some(_), None) => "",
            (Some(_), Some(true)) => "ok",
            (Some(_), Some(false)) => "NOT MET",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// All figures by their keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, Figure>);

impl Figures {
    /// Our time over that of the bare commands; the measurements come in pairs.
    pub fn ratio(&mut self, key: &str, ours: &Samples, bare: &Samples) {
        self.compare(key, (ours, bare), (ours, bare));
    }

    /// Our rate over that of the bare commands, which do as much.
    pub fn rate_ratio(&mut self, key: &str, ours: &Samples, bare: &Samples) {
        self.compare(key, (ours, bare), (bare, ours));
    }

    fn compare(&mut self, key: &str, (ours, bare): (&Samples, &Samples), (over, under): (&Samples, &Samples)) {
        let neighbours = over.over(under);
        let figure = Figure {
            ratio: Some(over.median() / under.median()),
            median_ours_ms: Some(ours.median()),
            median_bare_ms: Some(bare.median()),
            min: Some(neighbours.min()),
            max: Some(neighbours.max()),
            n: neighbours.len(),
            ..Figure::default()
        };
        self.put(key, figure);
    }

    /// Our time alone.
    pub fn time(&mut self, key: &str, ours: &Samples) {
        let (min, max) = (Some(ours.min()), Some(ours.max()));
        self.put(key, Figure { value: Some(ours.median()), min, max, n: ours.len(), ..Figure::default() });
    }

    /// A number that is found once.
    pub fn value(&mut self, key: &str, value: f64) {
        self.put(key, Figure { value: Some(value), n: 1, ..Figure::default() });
    }

    /// A number over so many calls.
    pub fn count(&mut self, key: &str, value: f64, calls: usize) {
        self.put(key, Figure { value: Some(value), n: calls, ..Figure::default() });
    }

    /// Their median and their 99th percentile, in milliseconds; `{}` in the key stands for p50 and p99.
    pub fn percentiles(&mut self, key: &str, samples: &Samples) {
        for (word, value) in [("p50", samples.median()), ("p99", samples.percentile(99))] {
            let (min, max) = (Some(samples.min()), Some(samples.max()));
            let figure = Figure { value: Some(value), min, max, n: samples.len(), ..Figure::default() };
            self.put(&key.replace("{}", word), figure);
        }
    }

    /// The most that a figure may be, where that follows from the same run.
    pub fn require(&mut self, key: &str, most: f64) {
        self.0.entry(key.to_owned()).or_default().must = Some(most);
    }

    fn put(&mut self, key: &str, mut figure: Figure) {
        (figure.must, figure.at_least) = limit(key);
        self.0.insert(key.to_owned(), figure);
    }

    /// What a figure is; `None` if it was not measured.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).and_then(Figure::result)
    }

    /// Takes in those of another measurement.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// The keys of those that are not what they must be.
    pub fn unmet(&self) -> Vec<String> {
        self.0.iter().filter(|(_, figure)| figure.is_met() == Some(false)).map(|(key, _)| key.clone()).collect()
    }

    /// For people: a row for each of these, with its verdict.
    pub fn table<K: AsRef<str>>(&self, keys: &[K]) -> String {
        let mut table = format!(
            "{:<34}{:>9}{:>8}{:>11}{:>11}{:>10}{:>10}{:>7}  \n",
            "figure", "is", "must", "ours ms", "bare ms", "min", "max", "n"
        );
        for key in keys.iter().map(AsRef::as_ref) {
            let (must, at_least) = limit(key);
            let missing = Figure { must, at_least, ..Figure::default() };
            let figure = self.0.get(key).unwrap_or(&missing);
            let sign = if figure.at_least { '≥' } else { '≤' };
            let must = figure.must.map_or_else(String::new, |must| format!("{sign} {must}"));
            let _ = writeln!(
                table,
                "{key:<34}{:>9}{must:>8}{:>11}{:>11}{:>10}{:>10}{:>7}  {}",
                number(figure.result()),
                number(figure.median_ours_ms),
                number(figure.median_bare_ms),
                number(figure.min),
                number(figure.max),
                figure.n,
                figure.verdict()
            );
        }
        table
    }
}

fn number(number: Option<f64>) -> String {
    match number {
        None => String::from("-"),
        Some(number) if number.abs() >= 100.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(measurements: &[f64]) -> Samples {
        measurements.iter().copied().collect()
    }

    #[test]
    fn a_row_says_whether_it_is_met() {
        let mut figures = Figures::default();
        figures.ratio("create_volume_p50_ratio", &samples(&[1.0, 2.0, 3.0]), &samples(&[4.0, 4.0, 4.0]));
        figures.value("binary_mib", 15.1);
        figures.time("publish_p50_ms", &samples(&[3.0]));
        let table = figures.table(&["create_volume_p50_ratio", "binary_mib", "rss_500_mib", "publish_p50_ms"]);
        let row = |key: &str| table.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        assert!(row("create_volume_p50_ratio").ends_with("  ok"), "{table}");
        assert!(row("binary_mib").ends_with("NOT MET"), "{table}");
        assert!(row("rss_500_mib").ends_with("not measured"), "{table}");
        assert!(row("publish_p50_ms").ends_with("1  "), "{table}");
    }

    #[test]
    fn a_ratio_is_of_the_medians_and_its_spread_of_the_pairs() {
        let mut figures = Figures::default();
        figures.ratio("stage_fresh_ratio", &samples(&[1.0, 2.0, 9.0]), &samples(&[4.0, 1.0, 4.0]));
        let figure = &figures.0["stage_fresh_ratio"];
        let found = [figure.ratio, figure.min, figure.max, figure.median_ours_ms, figure.must];
        assert_eq!(found, [Some(0.5), Some(0.25), Some(2.25), Some(2.0), Some(1.0)]);
        assert_eq!(figure.n, 3);
    }

    #[test]
    fn a_rate_must_be_at_least_its_limit() {
        let mut figures = Figures::default();
        figures.rate_ratio("copy_rate_ratio", &samples(&[2.0, 4.0]), &samples(&[2.0, 1.0]));
        let figure = &figures.0["copy_rate_ratio"];
        let found = [figure.ratio, figure.min, figure.max, figure.median_ours_ms];
        assert_eq!(found, [Some(0.5), Some(0.25), Some(1.0), Some(3.0)]);
        assert!(figures.table(&["copy_rate_ratio"]).contains("≥ 0.9"), "{figures:?}");
        assert_eq!(figures.unmet(), ["copy_rate_ratio"]);
        figures.rate_ratio("copy_rate_ratio", &samples(&[2.0]), &samples(&[2.0]));
        assert!(figures.unmet().is_empty(), "{figures:?}");
    }

    #[test]
    fn percentiles_are_two_figures() {
        let mut figures = Figures::default();
        figures.percentiles("route_{}_ms_5000", &samples(&[1.0, 2.0, 9.0]));
        let found = ["route_p50_ms_5000", "route_p99_ms_5000"].map(|key| (figures.get(key), figures.0[key].must));
        assert_eq!(found, [(Some(2.0), None), (Some(9.0), Some(5.0))]);
    }

    #[test]
    fn figures_go_through_a_file() {
        let mut figures = Figures::default();
        figures.ratio("stage_fresh_ratio", &samples(&[1.0]), &samples(&[4.0]));
        figures.count("lvm_processes_list", 0.0, 20);
        let text = serde_json::to_string(&figures).unwrap();
        assert_eq!(serde_json::from_str::<Figures>(&text).unwrap(), figures);
    }
}
