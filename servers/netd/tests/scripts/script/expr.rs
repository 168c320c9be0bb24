//! The language of assertions: what such scripts use of Python, on numbers.

use super::cursor::{Cursor, Result};
use std::collections::HashMap;

/// Runs statements, one a line or between `;`: `assert A[, B]`, `NAME = A`. Names are looked up in
/// `names`.
pub fn run(code: &str, names: &mut HashMap<String, f64>) -> Result<()> {
    let code = code.replace("\\\n", " ");
    for statement in code.split(['\n', ';']) {
        let statement = statement.split('#').next().unwrap_or("").trim();
        let skipped = ["", "print", "import"];
        if skipped.contains(&Cursor::new(statement).peek_word()) {
            continue;
        }
        let mut c = Cursor::new(statement);
        if c.eat_word("assert") {
            let value = or(&mut c, names)?;
            if value == 0.0 {
                return Err(format!("does not hold: {statement}{}", known(statement, names)));
            }
            continue;
        }
        let name = c.word().to_string();
        c.expect("=")?;
        let value = or(&mut c, names)?;
        names.insert(name, value);
    }
    Ok(())
}

/// The values of the names in a statement.
fn known(statement: &str, names: &HashMap<String, f64>) -> String {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let mut seen: Vec<&str> = Vec::new();
    for w in statement.split(word) {
        if names.contains_key(w) && !seen.contains(&w) && w.starts_with(char::is_lowercase) {
            seen.push(w);
        }
    }
    seen.iter().map(|w| format!("; {w} is {}", names[*w])).collect()
}

type Names = HashMap<String, f64>;

fn or(c: &mut Cursor, n: &Names) -> Result<f64> {
    let mut value = and(c, n)?;
    while c.eat_word("or") {
        let right = and(c, n)?;
        value = if value != 0.0 { value } else { right };
    }
    Ok(value)
}

fn and(c: &mut Cursor, n: &Names) -> Result<f64> {
    let mut value = not(c, n)?;
    while c.eat_word("and") {
        let right = not(c, n)?;
        value = if value == 0.0 { value } else { right };
    }
    Ok(value)
}

fn not(c: &mut Cursor, n: &Names) -> Result<f64> {
    if c.eat_word("not") { not(c, n).map(|v| (v == 0.0) as u8 as f64) } else { compare(c, n) }
}

/// Comparisons, in a chain as Python has them.
fn compare(c: &mut Cursor, n: &Names) -> Result<f64> {
    let mut left = bits(c, n)?;
    let (mut any, mut all) = (false, true);
    loop {
        let op = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|op| {
            c.rest.starts_with(op) && !c.rest.starts_with("<<") && !c.rest.starts_with(">>")
        });
        let Some(op) = op else { break };
        c.eat(op);
        let right = bits(c, n)?;
        all &= match op {
            "==" => left == right,
            "!=" => left != right,
            "<=" => left <= right,
            ">=" => left >= right,
            "<" => left < right,
            _ => left > right,
        };
        (left, any) = (right, true);
    }
    Ok(if any { all as u8 as f64 } else { left })
}

fn bits(c: &mut Cursor, n: &Names) -> Result<f64> {
    let mut value = sum(c, n)?;
    loop {
        let op = ["<<", ">>", "|", "&", "^"].into_iter().find(|op| c.rest.starts_with(op));
        let Some(op) = op else { return Ok(value) };
        c.eat(op);
        let (l, r) = (value as i64, sum(c, n)? as i64);
        value = match op {
            "<<" => l << r,
            ">>" => l >> r,
            "|" => l | r,
            "&" => l & r,
            _ => l ^ r,
        } as f64;
    }
}

fn sum(c: &mut Cursor, n: &Names) -> Result<f64> {
    let mut value = product(c, n)?;
    loop {
        if c.eat("+") {
            value += product(c, n)?;
        } else if c.eat("-") {
            value -= product(c, n)?;
        } else {
            return Ok(value);
        }
    }
}

fn product(c: &mut Cursor, n: &Names) -> Result<f64> {
    let mut value = unary(c, n)?;
    loop {
        if c.eat("//") {
            value = (value / unary(c, n)?).floor();
        } else if c.eat("*") {
            value *= unary(c, n)?;
        } else if c.eat("/") {
            value /= unary(c, n)?;
        } else if c.eat("%") {
            value %= unary(c, n)?;
        } else {
            return Ok(value);
        }
    }
}

fn unary(c: &mut Cursor, n: &Names) -> Result<f64> {
    if c.eat("-") {
        return unary(c, n).map(|v| -v);
    }
    if c.eat("(") {
        let value = or(c, n)?;
        c.expect(")")?;
        return Ok(value);
    }
    let word = c.take(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    if matches!(word, "abs" | "min" | "max" | "int") && c.eat("(") {
        let mut values = vec![or(c, n)?];
        while c.eat(",") {
            values.push(or(c, n)?);
        }
        c.expect(")")?;
        let first = values[0];
        return Ok(match word {
            "abs" => first.abs(),
            "int" => first.trunc(),
            "min" => values.into_iter().fold(first, f64::min),
            _ => values.into_iter().fold(first, f64::max),
        });
    }
    if let Some(hex) = word.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).map(|v| v as f64).map_err(|e| e.to_string());
    }
    let number =
        word.parse::<f64>().ok().filter(|_| word.starts_with(|c: char| !c.is_alphabetic()));
    number.or_else(|| n.get(word).copied()).ok_or_else(|| format!("nothing is known of `{word}`"))
}
