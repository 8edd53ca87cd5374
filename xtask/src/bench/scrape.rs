//! Scrape: figures out of `/metrics`.

/// One page, as it was at one moment.
pub(super) struct Metrics(String);

impl Metrics {
    pub(super) fn new(page: String) -> Metrics {
        Metrics(page)
    }

    /// The sum over every series of `name` that has these labels; None where the page has no such series.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<f64> = self.0.lines().filter_map(|line| value(line, name, labels)).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    pub(super) fn accepted(&self) -> u64 {
        self.count("longshore_events_accepted_total", &[])
    }

    pub(super) fn done(&self) -> u64 {
        self.count("longshore_deliveries_total", &[("outcome", "done")])
    }

    /// Deliveries that ended, whatever way.
    pub(super) fn ended(&self) -> u64 {
        let ended = ["done", "skipped", "dead"];
        ended.iter().map(|outcome| self.count("longshore_deliveries_total", &[("outcome", outcome)])).sum()
    }

    pub(super) fn index_lag(&self) -> u64 {
        self.count("longshore_index_lag_records", &[])
    }

    pub(super) fn journal_bytes(&self) -> u64 {
        self.count("longshore_journal_bytes", &[])
    }

    pub(super) fn records(&self) -> u64 {
        self.count("longshore_journal_records_total", &[])
    }

    pub(super) fn syncs(&self) -> u64 {
        self.count("longshore_journal_syncs_total", &[])
    }

    /// A counter that has not counted yet is not on the page.
    fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels).unwrap_or_default() as u64
    }
}

fn value(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (had, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let has = |(label, value): &(&str, &str)| had.split(',').any(|one| one == format!("{label}=\"{value}\""));
    // A time may follow the value.
    labels.iter().all(has).then(|| value.split(' ').next()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE longshore_deliveries counter\n\
        longshore_deliveries_total{handler=\"a\",outcome=\"done\"} 3\n\
        longshore_deliveries_total{handler=\"b\",outcome=\"done\"} 4\n\
        longshore_deliveries_total{handler=\"b\",outcome=\"dead\"} 9\n\
        longshore_deliveries_total{handler=\"b\",outcome=\"retried\"} 100\n\
        longshore_index_lag_records 17\n\
        longshore_journal_sync_seconds_total 1.5\n\
        # EOF\n";

    #[test]
    fn series_are_summed_by_their_labels() {
        let metrics = Metrics::new(PAGE.to_owned());
        assert_eq!(metrics.done(), 7);
        assert_eq!(metrics.ended(), 16);
        assert_eq!(
            metrics.sum("longshore_deliveries_total", &[("handler", "b"), ("outcome", "dead")]),
            Some(9.0)
        );
        assert_eq!(metrics.index_lag(), 17);
        assert_eq!(metrics.sum("longshore_journal_sync_seconds_total", &[]), Some(1.5));
    }

    #[test]
    fn a_name_is_the_whole_name_and_what_is_not_there_is_nothing() {
        let metrics = Metrics::new(PAGE.to_owned());
        assert_eq!(metrics.sum("longshore_deliveries", &[]), None);
        assert_eq!(metrics.sum("longshore_index_lag", &[]), None);
        assert_eq!(metrics.accepted(), 0);
    }
}
