//! A bar chart as SVG: one bar per contender, a whisker from the least to the greatest sample.
//!
//! Invariant: colours come from the page's style sheet, so that it can be light or dark; nothing is loaded.

use std::fmt::Write as _;

use super::{Contender, stats::Spread};

/// One bar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) contender: Contender,
    /// `None` draws the words "no result".
    pub(super) spread: Option<Spread>,
}

/// Draws `bars` under `title`; `digits` behind the point in the figures.
pub(super) fn bars(title: &str, bars: &[Bar], digits: usize) -> String {
    let scale = Scale::of(bars);
    let height = HEAD + ROW * rows(bars);
    let mut svg = String::new();
    // Writing to a string can't fail.
    let _ = write!(
        svg,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\
         <text class=\"title\" x=\"0\" y=\"13\">{title}</text>\
         <line class=\"axis\" x1=\"{zero:.1}\" y1=\"{HEAD}\" x2=\"{zero:.1}\" y2=\"{height}\"/>",
        zero = scale.x(0.0),
    );
    for (row, bar) in bars.iter().enumerate() {
        let top = HEAD + ROW * rows(&bars[..row]);
        let _ = draw(&mut svg, bar, &scale, top, digits);
    }
    svg.push_str("</svg>");
    svg
}

fn rows(bars: &[Bar]) -> u32 {
    u32::try_from(bars.len()).unwrap_or(u32::MAX)
}

fn draw(svg: &mut String, bar: &Bar, scale: &Scale, top: u32, digits: usize) -> std::fmt::Result {
    let middle = top + ROW / 2;
    let base = middle + 4;
    let contender = bar.contender;
    write!(
        svg,
        "<text x=\"{end}\" y=\"{base}\" text-anchor=\"end\">{contender}</text>",
        end = LABEL - 8
    )?;
    let Some(spread) = bar.spread else {
        return write!(
            svg,
            "<text class=\"bad\" x=\"{LABEL}\" y=\"{base}\">no result</text>"
        );
    };
    let (zero, end) = (scale.x(0.0), scale.x(spread.median));
    let (least, greatest) = (scale.x(spread.min), scale.x(spread.max));
    write!(
        svg,
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
         <path class=\"whisker\" d=\"M{least:.1} {middle}H{greatest:.1}M{least:.1} {up}v8M{greatest:.1} {up}v8\"/>\
         <text class=\"value\" x=\"{after:.1}\" y=\"{base}\">{value}</text>",
        class = class(contender),
        left = zero.min(end),
        y = middle - BAR / 2,
        width = (end - zero).abs(),
        up = middle - 4,
        after = zero.max(end).max(greatest) + 6.0,
        value = figure(spread.median, digits),
    )
}

/// Where values lie: from the least of zero and all samples to the greatest.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(bars: &[Bar]) -> Self {
        let spreads = bars.iter().filter_map(|bar| bar.spread);
        let (low, high) = spreads.fold((0.0_f64, 0.0_f64), |(low, high), spread| {
            (low.min(spread.min), high.max(spread.max))
        });
        // All zero: any length will do.
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high }
    }

    fn x(&self, value: f64) -> f64 {
        let room = f64::from(WIDTH - LABEL - VALUE);
        f64::from(LABEL) + (value - self.low) / (self.high - self.low) * room
    }
}

/// Class in the page's style sheet.
pub(super) const fn class(contender: Contender) -> &'static str {
    match contender {
        Contender::Direct => "direct",
        Contender::LbAfXdp => "lb-af-xdp",
        Contender::LbKernel => "lb-kernel",
        Contender::Nginx => "nginx",
        Contender::Haproxy => "haproxy",
    }
}

/// With a thin space between thousands, as no locale misreads it.
pub(crate) fn figure(value: f64, digits: usize) -> String {
    let plain = format!("{value:.digits$}");
    let end = plain.find('.').unwrap_or(plain.len());
    let (whole, rest) = plain.split_at(end);
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        if left % 3 == 0 && grouped.ends_with(|c: char| c.is_ascii_digit()) {
            grouped.push('\u{2009}');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// Units of the view box; the page scales it.
const WIDTH: u32 = 400;
const HEAD: u32 = 22;
const ROW: u32 = 24;
const BAR: u32 = 14;
/// Room for a contender's name.
const LABEL: u32 = 78;
/// Room for a figure behind the longest bar.
const VALUE: u32 = 66;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let check = |value, digits, expected: &str| {
            assert_eq!(figure(value, digits).replace('\u{2009}', "_"), expected);
        };
        check(0.0, 0, "0");
        check(999.0, 0, "999");
        check(1000.0, 0, "1_000");
        check(1_234_567.0, 1, "1_234_567.0");
        check(-123.4, 1, "-123.4");
        check(-1234.5, 1, "-1_234.5");
    }

    #[test]
    fn bars_stay_within_their_room() {
        let cell = |median, min, max| Bar {
            contender: Contender::Nginx,
            spread: Some(Spread { median, min, max }),
        };
        for bars in [
            vec![cell(5.0, 1.0, 9.0), cell(100.0, 90.0, 120.0)],
            vec![cell(-3.0, -5.0, 2.0)],
            vec![cell(0.0, 0.0, 0.0)],
        ] {
            let scale = Scale::of(&bars);
            let inside = f64::from(LABEL)..=f64::from(WIDTH - VALUE);
            for spread in bars.iter().filter_map(|bar| bar.spread) {
                for value in [spread.min, spread.median, spread.max, 0.0] {
                    let x = scale.x(value);
                    assert!(inside.contains(&x), "{value} is at {x}");
                }
            }
        }
    }

    #[test]
    fn a_missing_result_is_said() {
        let bar = Bar {
            contender: Contender::LbKernel,
            spread: None,
        };
        let svg = bars("requests/s", &[bar], 0);
        assert!(
            svg.contains("no result") && svg.contains("lb kernel"),
            "{svg}"
        );
    }
}
