//! Plot: one chart as SVG, from a description as JSON on stdin. Prints the SVG.
//!
//! ```json
//! { "title": "…", "x": { "name": "connections", "log": true }, "y": { "name": "accepts/s", "log": false },
//!   "series": [ { "name": "Longshore", "points": [[1, 5200], [16, 21000]] } ] }
//! ```

use std::io::{self, Read as _};
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use serde_json::Value;

const SIZE: (u32, u32) = (860, 400);
const LEGEND_WIDTH: u32 = 190;
const LABELS_MAX: usize = 8;
/// Told apart also by those who see red and green alike.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
];

fn main() {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).expect("a description comes on stdin");
    let chart: Value = serde_json::from_str(&text).expect("the description is JSON");
    let chart = Chart::of(&chart).expect("the description has title, x, y and series with points");
    println!("{}", chart.svg());
}

struct Chart {
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

struct Axis {
    name: String,
    log: bool,
}

struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Chart {
    fn of(value: &Value) -> Option<Chart> {
        let text = |value: &Value| Some(value.as_str()?.to_owned());
        let axis = |value: &Value| {
            Some(Axis { name: text(&value["name"])?, log: value["log"].as_bool().unwrap_or_default() })
        };
        let point = |value: &Value| Some((value[0].as_f64()?, value[1].as_f64()?));
        let series = |value: &Value| {
            let points: Option<Vec<_>> = value["points"].as_array()?.iter().map(point).collect();
            Some(Series { name: text(&value["name"])?, points: points? })
        };
        let all: Option<Vec<Series>> = value["series"].as_array()?.iter().map(series).collect();
        let chart = Chart {
            title: text(&value["title"])?,
            x: axis(&value["x"])?,
            y: axis(&value["y"])?,
            series: all?,
        };
        chart.series.iter().any(|series| !series.points.is_empty()).then_some(chart)
    }

    fn svg(&self) -> String {
        let xs = self.span(|point| point.0, self.x.log);
        let ys = self.span(|point| point.1, self.y.log);
        let mut svg = String::new();
        match (self.x.log, self.y.log) {
            (true, true) => self.draw(&mut svg, xs.log_scale(), ys.log_scale()),
            (true, false) => self.draw(&mut svg, xs.log_scale(), ys),
            (false, true) => self.draw(&mut svg, xs, ys.log_scale()),
            (false, false) => self.draw(&mut svg, xs, ys),
        }
        svg
    }

    /// What an axis shows: a linear one begins at nothing, so that half looks like half.
    fn span(&self, pick: impl Fn(&(f64, f64)) -> f64, log: bool) -> Range<f64> {
        let values = || self.series.iter().flat_map(|series| &series.points).map(&pick);
        let highest = values().fold(f64::MIN_POSITIVE, f64::max);
        if log {
            let lowest = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
            lowest * 0.8..highest * 1.25
        } else {
            0.0..highest * 1.1
        }
    }

    fn draw<X, Y>(&self, svg: &mut String, x: X, y: Y)
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE).expect("a string takes all text");
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&left)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)
            .expect("the axes have a length");
        chart
            .configure_mesh()
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .x_labels(LABELS_MAX)
            .y_labels(LABELS_MAX)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .max_light_lines(0)
            .draw()
            .expect("a string takes all text");
        for (place, series) in (0..).zip(&self.series) {
            let style = colour(place).stroke_width(2);
            let line = LineSeries::new(series.points.iter().copied(), style).point_size(3);
            chart.draw_series(line).expect("a string takes all text");
            self.draw_word(&right, place, &series.name);
        }
        root.present().expect("a string takes all text");
    }

    /// Beside the chart, where it covers no line.
    fn draw_word(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, place: i32, name: &str) {
        let y = 56 + place * 22;
        let line = PathElement::new([(0, y), (22, y)], colour(place).stroke_width(2));
        area.draw(&line).expect("a string takes all text");
        let text = Text::new(name.to_owned(), (28, y - 6), ("sans-serif", 13));
        area.draw(&text).expect("a string takes all text");
    }
}

fn colour(place: i32) -> RGBColor {
    COLOURS[usize::try_from(place).expect("a place is no less than 0") % COLOURS.len()]
}

/// `250`, `1.5 k`, `10 M`: no tick needs more.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e9 => (v / 1e9, " G"),
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let text = format!("{scaled:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(log: bool) -> Value {
        serde_json::json!({
            "title": "Accepts", "x": { "name": "connections", "log": log }, "y": { "name": "per second" },
            "series": [ { "name": "ours", "points": [[1, 5_200], [1_024, 24_000]] }, { "name": "bare", "points": [[1, 9_000]] } ]
        })
    }

    #[test]
    fn a_chart_holds_its_words_and_a_mark_for_each_point() {
        for log in [false, true] {
            let svg = Chart::of(&chart(log)).unwrap().svg();
            assert!(svg.starts_with("<svg "), "{}", &svg[..80]);
            for word in ["Accepts", "connections", "per second", "ours", "bare"] {
                assert!(svg.contains(word), "{word}");
            }
            assert_eq!(svg.matches("<circle").count(), 3);
        }
    }

    #[test]
    fn a_chart_without_points_is_refused() {
        let mut empty = chart(true);
        empty["series"] = serde_json::json!([{ "name": "nobody", "points": [] }]);
        assert!(Chart::of(&empty).is_none());
    }

    #[test]
    fn ticks_are_short() {
        for (value, text) in
            [(0.0, "0"), (0.5, "0.5"), (1_500.0, "1.5 k"), (10_000_000.0, "10 M"), (2e9, "2 G")]
        {
            assert_eq!(short(value), text);
        }
    }
}
