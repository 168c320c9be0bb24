//! Figures, as tables for people and for documents, and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

/// Which direction is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Costs.
    Less,
    /// Rates.
    More,
}

/// A figure: what was measured in each round, here and in peers.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name in JSON: words and dots.
    pub name: String,
    /// What it is, for people.
    pub what: String,
    /// Unit of all its numbers.
    pub unit: &'static str,
    /// Which direction is the good one.
    pub better: Better,
    /// What we want to reach.
    pub aim: Option<f64>,
    /// Ours, one of each round.
    pub ours: Vec<f64>,
    /// Others', by name.
    pub peers: BTreeMap<&'static str, Vec<f64>>,
}

/// What a program gets: medians.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    value: f64,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    peers: BTreeMap<&'a str, f64>,
}

/// The number in the middle; of an even number of them the mean of the two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let (low, high) = (v.get(v.len().checked_sub(1)? / 2)?, v.get(v.len() / 2)?);
    Some((low + high) / 2.0)
}

/// As many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => {
            let digits = format!("{value:.0}");
            let (sign, digits) = digits.split_at(usize::from(digits.starts_with('-')));
            let groups: Vec<&str> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .map(|g| std::str::from_utf8(g).expect("digits"))
                .collect();
            format!("{sign}{}", groups.join(","))
        }
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Figure {
    /// Our share of what a peer needs; for rates, how many times its rate.
    pub fn ratio(&self, peer: &str) -> Option<f64> {
        let theirs = median(self.peers.get(peer)?)?;
        (theirs != 0.0).then_some(median(&self.ours)? / theirs)
    }

    /// The JSON line; `None` if nothing was measured.
    pub fn json(&self) -> Option<String> {
        let peers =
            self.peers.iter().filter_map(|(n, v)| Some((*n, rounded(median(v)?)))).collect();
        let value = rounded(median(&self.ours)?);
        let line = Line { name: &self.name, value, unit: self.unit, aim: self.aim, peers };
        Some(serde_json::to_string(&line).expect("plain data"))
    }

    fn cells(&self, peers: &[&str]) -> Vec<String> {
        let spread = |v: &[f64]| match median(v) {
            None => "-".to_string(),
            Some(m) if v.len() < 2 => number(m),
            Some(m) => {
                let (low, high) = v.iter().fold((m, m), |(l, h), x| (l.min(*x), h.max(*x)));
                format!("{} ({}..{})", number(m), number(low), number(high))
            }
        };
        let mut cells = vec![format!("{}, {}", self.what, self.unit), spread(&self.ours)];
        for peer in peers {
            cells.push(self.peers.get(peer).map_or_else(|| "-".into(), |v| spread(v)));
        }
        cells.push(match self.ratio(reference(peers)) {
            // A program of ours that needs more, or does less, than the peer.
            Some(r) if (r > 1.0) == (self.better == Better::Less) && r != 1.0 => {
                format!("{r:.2} !")
            }
            Some(r) => format!("{r:.2}"),
            None => "-".into(),
        });
        cells.push(self.aim.map_or_else(|| "-".into(), number));
        cells
    }
}

/// To six significant digits: the rest is noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// How tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns.
    Text,
    /// A table for a document.
    Markdown,
    /// One object a line.
    Json,
}

/// The peer that ratios are of, where it was measured.
pub const PEER: &str = "linux";

/// The peer that a table's ratios are of: [`PEER`], or the first.
fn reference<'a>(peers: &[&'a str]) -> &'a str {
    let found = peers.iter().find(|p| **p == PEER);
    found.or(peers.first()).copied().unwrap_or(PEER)
}

/// All figures of one table, with the ratio to a peer; `!` marks what is worse than there.
pub fn table(figures: &[Figure], format: Format) -> String {
    if format == Format::Json {
        return figures.iter().filter_map(Figure::json).map(|l| l + "\n").collect();
    }
    let mut peers: Vec<&str> = figures.iter().flat_map(|f| f.peers.keys().copied()).collect();
    peers.sort_unstable();
    peers.dedup();
    let mut head = vec!["".to_string(), "Breakwater".into()];
    head.extend(peers.iter().map(|p| p.to_string()));
    head.extend([format!("to {}", reference(&peers)), "aim".into()]);
    let mut rows = vec![head];
    rows.extend(figures.iter().map(|f| f.cells(&peers)));
    let columns = rows[0].len();
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(c, (cell, width))| match c {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        let cells: Vec<String> = cells.collect();
        match format {
            Format::Markdown => writeln!(text, "| {} |", cells.join(" | ")),
            _ => writeln!(text, "{}", cells.join("  ").trim_end()),
        }
        .expect("a string takes everything");
        if i == 0 && format == Format::Markdown {
            text += &format!("|---{}|\n", "|---:".repeat(columns - 1));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure {
            name: "net.instructions.ping".into(),
            what: "ping".into(),
            unit: "instructions",
            better: Better::Less,
            aim: Some(13_000.0),
            ours: vec![15_000.0, 14_000.0, 20_000.0],
            peers: BTreeMap::from([("linux", vec![12_000.0, 13_000.0])]),
        }
    }

    #[test]
    fn json_has_medians_and_what_exists() {
        let mut f = figure();
        assert_eq!(
            f.json().unwrap(),
            r#"{"name":"net.instructions.ping","value":15000.0,"unit":"instructions","aim":13000.0,"peers":{"linux":12500.0}}"#
        );
        (f.aim, f.peers) = (None, BTreeMap::new());
        let line = f.json().unwrap();
        assert!(!line.contains("aim") && !line.contains("peers"), "{line}");
        f.ours.clear();
        assert_eq!(f.json(), None);
    }

    #[test]
    fn what_is_worse_is_marked() {
        let mut f = figure();
        let text = table(&[f.clone()], Format::Text);
        assert!(text.contains("15,000 (14,000..20,000)") && text.contains("1.20 !"), "{text}");
        f.better = Better::More;
        let text = table(&[f], Format::Markdown);
        assert!(text.contains("| 1.20 |") || text.contains(" 1.20 |"), "{text}");
        assert_eq!(text.lines().nth(1), Some("|---|---:|---:|---:|---:|"));
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.123, 9.876, 12.34, 123.4, 1234.5, 12_345_678.0, -4321.0].map(number);
        assert_eq!(all, ["0.12", "9.88", "12.3", "123", "1,234", "12,345,678", "-4,321"]);
    }
}
