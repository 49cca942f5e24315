//! Reading `/metrics`.

/// One scrape of the page.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Takes the text of a page.
    #[must_use]
    pub fn new(page: String) -> Self {
        Self(page)
    }

    /// The sum of all series of this name that carry these labels; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.lines().filter_map(|line| sample(line, name, labels)).sum()
    }

    /// The whole page.
    #[must_use]
    pub fn page(&self) -> &str {
        &self.0
    }
}

fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (series, value) = rest.rsplit_once(' ')?;
    let is_this_name = series.is_empty() || series.starts_with('{');
    let has = |(key, value): &(&str, &str)| {
        let pair = format!("{key}=\"{value}\"");
        series.contains(&format!("{{{pair}")) || series.contains(&format!(",{pair}"))
    };
    if is_this_name && labels.iter().all(has) { value.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_told_apart_by_name_and_labels() {
        let page = "a_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\na_total_more 5\nb 6\n# HELP b x\n";
        let metrics = Metrics::new(page.to_owned());
        assert!((metrics.sum("a_total", &[("x", "1")]) - 7.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a_total", &[("y", "3"), ("x", "1")]) - 4.0).abs() < f64::EPSILON);
        assert!((metrics.sum("b", &[]) - 6.0).abs() < f64::EPSILON);
        assert!(metrics.sum("a_total", &[("x", "2")]).abs() < f64::EPSILON);
    }
}
