//! Figures: medians, and numbers as people read them.

/// NaN where there is none, which no bar is reached by.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// By nearest rank, as the load generator does it.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1));
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// `1,234,567`
pub(super) fn whole(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

/// `0.52`, `8.1`, `340`: three figures or fewer.
pub(super) fn ratio(value: f64) -> String {
    match value {
        v if !v.is_finite() => "-".to_owned(),
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => whole(v),
    }
}

/// A mark to be reached, without the noughts that a measured value has: `0.5`, `10`, `64 MiB`, `1 min`.
pub(super) fn mark(shown: &str) -> String {
    let (number, unit) = shown.split_once(' ').map_or((shown, ""), |(number, unit)| (number, unit));
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    let text = if unit.is_empty() { number.to_owned() } else { format!("{number} {unit}") };
    text.trim_end_matches(" 00 s").to_owned()
}

/// `512 B`, `1.5 MiB`, `10 GiB`.
pub(super) fn bytes(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let text = if unit == 0 || scaled >= 100.0 { format!("{scaled:.0}") } else { format!("{scaled:.1}") };
    format!("{} {}", text.trim_end_matches(".0"), units[unit])
}

/// `83 us`, `1.52 ms`, `2.4 s`, `5 min 12 s`; from microseconds.
pub(super) fn span(us: f64) -> String {
    match us {
        v if !v.is_finite() => "-".to_owned(),
        v if v < 1e3 => format!("{v:.0} us"),
        v if v < 1e4 => format!("{:.2} ms", v / 1e3),
        v if v < 1e6 => format!("{:.0} ms", v / 1e3),
        v if v < 1e8 => format!("{:.1} s", v / 1e6),
        v => format!("{:.0} min {:02.0} s", (v / 6e7).floor(), (v / 1e6) % 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_quantile_was_seen() {
        let mut values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(quantile(&mut values, 0.99), 198.0);
        assert_eq!(quantile(&mut values, 0.5), 100.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn marks_have_no_noughts() {
        for (shown, text) in [
            ("0.50", "0.5"),
            ("10.0", "10"),
            ("100", "100"),
            ("2.0 s", "2 s"),
            ("64 MiB", "64 MiB"),
            ("5 min 00 s", "5 min"),
        ] {
            assert_eq!(mark(shown), text);
        }
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.4, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1_500.0, "-1,500"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(whole(value), text);
        }
        for (value, text) in [(0.523, "0.52"), (12.34, "12.3"), (1_234.0, "1,234")] {
            assert_eq!(ratio(value), text);
        }
        for (value, text) in [
            (512.0, "512 B"),
            (1_572_864.0, "1.5 MiB"),
            (10_737_418_240.0, "10 GiB"),
            (250.0 * 1024.0, "250 KiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [
            (83.2, "83 us"),
            (1_520.0, "1.52 ms"),
            (45_000.0, "45 ms"),
            (2_400_000.0, "2.4 s"),
            (312_000_000.0, "5 min 12 s"),
        ] {
            assert_eq!(span(value), text);
        }
    }
}
