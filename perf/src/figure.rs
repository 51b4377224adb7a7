//! Line figures as SVG, readable on a light and on a dark page.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Colours with contrast enough on white and on black.
const COLOURS: [&str; 6] = ["#2f7ed8", "#d9622b", "#2a9d5c", "#a05cc5", "#b58900", "#d33682"];
/// Steps of the vertical axis, about.
const STEPS: f64 = 5.0;

/// A figure: points at the same marks for every line.
pub struct Figure<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What the marks along the bottom are.
    pub bottom: &'a str,
    /// What is measured, with its unit.
    pub side: &'a str,
    /// The marks, evenly apart.
    pub marks: Vec<String>,
    /// Names and values, one value for each mark; NaN where there is none.
    pub lines: Vec<(String, Vec<f64>)>,
}

impl Figure<'_> {
    /// The figure as a file of its own.
    pub fn svg(&self) -> String {
        let values = || self.lines.iter().flat_map(|(_, values)| values).copied();
        let highest = values().filter(|value| value.is_finite()).fold(0.0, f64::max);
        let step = step_of(highest);
        let top = (highest / step).ceil().max(1.0) * step;
        let mut out = head(self.title);
        self.axes(&mut out, step, top);
        for (index, ((name, values), colour)) in
            self.lines.iter().zip(COLOURS.iter().cycle()).enumerate()
        {
            let points: Vec<(f64, f64)> = values
                .iter()
                .enumerate()
                .filter(|(_, value)| value.is_finite())
                .map(|(at, value)| (self.across(at), up(*value, top)))
                .collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for (x, y) in points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
                );
            }
            let (x, y) = (WIDTH - RIGHT + 12.0, TOP + 8.0 + 18.0 * index as f64);
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{y}\">{}</text>",
                y - 9.0,
                x + 15.0,
                escape(name)
            );
        }
        out.push_str("</svg>\n");
        out
    }

    fn across(&self, mark: usize) -> f64 {
        let room = WIDTH - LEFT - RIGHT;
        LEFT + room * (mark as f64 + 0.5) / self.marks.len().max(1) as f64
    }

    fn axes(&self, out: &mut String, step: f64, top: f64) {
        let mut value = 0.0;
        while value <= top * 1.001 {
            let y = up(value, top);
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(value)
            );
            value += step;
        }
        for (at, mark) in self.marks.iter().enumerate() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                self.across(at),
                HEIGHT - BOTTOM + 18.0,
                escape(mark)
            );
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 10.0,
            escape(self.bottom),
            escape(self.side)
        );
    }
}

fn head(title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>text{{fill:#333}}.grid{{stroke:#999;stroke-opacity:.4}}.page{{fill:#fff}}\n\
         @media (prefers-color-scheme:dark){{text{{fill:#ddd}}.page{{fill:#16181c}}}}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escape(title)
    )
}

fn up(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top
}

/// A round step that makes about [`STEPS`] of `highest`.
fn step_of(highest: f64) -> f64 {
    let rough = (highest / STEPS).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    if highest > 0.0 { fits.unwrap_or(10.0) * power } else { 1.0 }
}

fn number(value: f64) -> String {
    if value == 0.0 || value.abs() >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Figure, step_of};

    #[test]
    fn steps_are_round() {
        for (highest, step) in [(1.0, 0.2), (930.0, 200.0), (48.0, 10.0), (0.0, 1.0)] {
            let is: f64 = step_of(highest);
            assert!((is - step).abs() < 1e-9, "{highest}: {is}");
        }
    }

    #[test]
    fn every_point_is_drawn_inside_and_a_missing_one_is_left_out() {
        let figure = Figure {
            title: "a < b & c",
            bottom: "bytes",
            side: "Mpps",
            marks: vec!["64".into(), "512".into()],
            lines: vec![("one".into(), vec![1.0, f64::NAN]), ("two".into(), vec![0.5, 0.25])],
        };
        let svg = figure.svg();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("prefers-color-scheme:dark"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.ends_with("</svg>\n"));
    }
}
