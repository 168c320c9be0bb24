//! A plot of figures beside a peer's: a bar for each, its length what we need where the peer needs 1.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Error;
use super::figure::{Better, Figure, PEER, number};

/// Lengths end here; longer bars are cut, their number is not.
const LONGEST: f64 = 2.0;
const WIDTH: u32 = 960;
const BAR: u32 = 24;
/// Room for the names on the left, for numbers on the right, above and below.
const NAMES: i32 = 370;
const NUMBERS: i32 = 60;
const MARGIN: i32 = 40;

/// A bar: its name, and our cost as a multiple of the peer's.
fn bars(figures: &[Figure]) -> Vec<(String, f64)> {
    // With the iterations of `rep` it would be the same picture again.
    let once = |f: &&Figure| !f.name.contains("with_rep");
    let bar = |f: &Figure| {
        let ratio = f.ratio(PEER)?;
        // Of a rate the inverse: what a datagram or a byte takes.
        let cost = if f.better == Better::Less { ratio } else { 1.0 / ratio };
        let label = match f.better {
            Better::Less => format!("{}, {}", f.what, f.unit),
            Better::More => format!("{}, time (from {})", f.what, f.unit),
        };
        cost.is_finite().then_some((label, cost))
    };
    figures.iter().filter(once).filter_map(bar).collect()
}

/// Draws all figures that the peer has too, as SVG.
pub fn draw(figures: &[Figure], path: &Path) -> Result<(), Error> {
    let svg = svg(&bars(figures)).map_err(|why| Error::Plot { path: path.into(), why })?;
    std::fs::write(path, svg).map_err(|e| Error::Plot { path: path.into(), why: e.to_string() })
}

fn svg(bars: &[(String, f64)]) -> Result<String, String> {
    let height = BAR * bars.len() as u32 + 2 * MARGIN as u32;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let x = |ratio: f64| {
            let room = f64::from(WIDTH as i32 - NAMES - NUMBERS);
            NAMES + (room * ratio.min(LONGEST) / LONGEST) as i32
        };
        let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let left = font(13).pos(Pos::new(HPos::Left, VPos::Center));
        let right = font(13).pos(Pos::new(HPos::Right, VPos::Center));
        let wrong = |e: DrawingAreaErrorKind<_>| e.to_string();
        root.fill(&WHITE).map_err(wrong)?;
        let title = "What Breakwater needs where a Linux guest needs 1 (shorter is better)";
        root.draw(&Text::new(title, (10, 12), font(15))).map_err(wrong)?;
        for (i, (name, ratio)) in bars.iter().enumerate() {
            let top = MARGIN + i as i32 * BAR as i32;
            let middle = top + BAR as i32 / 2;
            let colour = if *ratio <= 1.0 { RGBColor(0, 114, 178) } else { RGBColor(213, 94, 0) };
            let corners = [(x(0.0), top + 3), (x(*ratio), top + BAR as i32 - 3)];
            root.draw(&Rectangle::new(corners, colour.filled())).map_err(wrong)?;
            root.draw(&Text::new(name.clone(), (NAMES - 8, middle), right.clone()))
                .map_err(wrong)?;
            root.draw(&Text::new(number(*ratio), (x(LONGEST) + 8, middle), left.clone()))
                .map_err(wrong)?;
        }
        let bottom = height as i32 - MARGIN;
        let line = PathElement::new(vec![(x(1.0), MARGIN), (x(1.0), bottom)], BLACK);
        root.draw(&line).map_err(wrong)?;
        let below = font(13).pos(Pos::new(HPos::Center, VPos::Top));
        root.draw(&Text::new("Linux: 1", (x(1.0), bottom + 6), below)).map_err(wrong)?;
        root.present().map_err(wrong)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn figure(what: &str, better: Better, ours: f64, linux: Option<f64>) -> Figure {
        Figure {
            name: what.into(),
            what: what.into(),
            unit: "µs",
            better,
            aim: None,
            ours: vec![ours],
            peers: linux.map(|l| BTreeMap::from([(PEER, vec![l])])).unwrap_or_default(),
        }
    }

    #[test]
    fn costs_and_rates_point_the_same_way() {
        let figures = [
            figure("cost", Better::Less, 50.0, Some(100.0)),
            figure("rate", Better::More, 50.0, Some(100.0)),
            figure("alone", Better::Less, 50.0, None),
            figure("nothing", Better::Less, 50.0, Some(0.0)),
        ];
        let bars = bars(&figures);
        assert_eq!(bars.len(), 2);
        assert_eq!((bars[0].1, bars[1].1), (0.5, 2.0));
        let svg = svg(&bars).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("cost, µs") && svg.contains("2.00"));
        // The background, and a bar each.
        assert_eq!(svg.matches("<rect").count(), 3, "{svg}");
    }
}
