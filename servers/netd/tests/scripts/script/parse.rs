//! Files to cases, cases to events.

use super::cursor::{Cursor, Result};
use super::packet::Packet;
use super::text;
use std::collections::HashMap;

/// When something happens, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct When {
    /// Counted from the event before, not from the beginning.
    pub relative: bool,
    pub from: u64,
    /// The latest time, with `~`.
    pub to: Option<u64>,
    /// When a blocking call returns, with `...`.
    pub end: Option<u64>,
    /// `*`: at any time.
    pub any: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Ellipsis,
    Int(i64),
    /// Constants, `|` between them.
    Name(String),
    Text(String),
    List(Vec<Arg>),
    /// Fields by name; a value without name has an empty one.
    Struct(Vec<(String, Arg)>),
    Apply(String, Vec<Arg>),
}

#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub args: Vec<Arg>,
    /// `None`: any.
    pub result: Option<i64>,
    pub errno: Option<String>,
}

#[derive(Clone, Debug)]
pub enum What {
    Inject(Packet),
    Expect(Packet),
    Call(Call),
    Assert(String),
    Shell(String),
    /// `flow NAME REMOTE > LOCAL`.
    Flow(String, String, String),
    /// A word of the world's: `link down`, `crash`.
    Do(String),
    /// Time passes, and nothing is sent.
    Quiet,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub line: usize,
    pub text: String,
    pub when: When,
    pub what: What,
}

#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    /// The clauses that it holds.
    pub clauses: Vec<String>,
    pub set: Vec<(String, String)>,
    /// Why it cannot be read; then it fails.
    pub error: Option<String>,
    pub events: Vec<Event>,
}

/// Lines that belong together, without comments: (number of the first, text).
fn logical(text: &str) -> Vec<(usize, String)> {
    let (mut out, mut line, mut depth) = (Vec::new(), 1, 0i32);
    let (mut current, mut begun) = (String::new(), 1);
    let mut quote: Option<&str> = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let n = match quote {
            Some(q) if rest.starts_with(q) => {
                quote = None;
                q.len()
            }
            None if rest.starts_with("//") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            None if rest.starts_with("/*") => {
                let end = rest.find("*/").map_or(rest.len(), |e| e + 2);
                line += rest[..end].matches('\n').count();
                rest = &rest[end..];
                continue;
            }
            None if rest.starts_with("%{") => {
                quote = Some("}%");
                2
            }
            None if "\"`".contains(c) => {
                quote = Some(if c == '"' { "\"" } else { "`" });
                1
            }
            _ => c.len_utf8(),
        };
        if quote.is_none() {
            depth += "([{".contains(c) as i32 - ")]}".contains(c) as i32;
            // The end of `}%` closes nothing.
            depth = if rest.starts_with("}%") { depth + 1 } else { depth }.max(0);
        }
        if c == '\n' {
            line += 1;
            if depth == 0 && quote.is_none() {
                if !current.trim().is_empty() {
                    out.push((begun, current.trim().to_string()));
                }
                current.clear();
            }
        }
        if current.trim().is_empty() {
            begun = line;
        }
        current.push_str(&rest[..n]);
        rest = &rest[n..];
    }
    if !current.trim().is_empty() {
        out.push((begun, current.trim().to_string()));
    }
    out
}

/// Lines that stand for themselves wherever `do NAME` is; `$key` in them is replaced.
#[derive(Clone, Debug, Default)]
pub struct Block {
    defaults: Vec<(String, String)>,
    lines: Vec<(usize, String)>,
}

pub type Blocks = HashMap<String, Block>;

fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |w: &str| w.split_once('=').map(|(k, v)| (k.into(), v.into()));
    text.split_whitespace().filter_map(pair).collect()
}

/// The cases of a file. Blocks that it defines are added to `blocks`.
pub fn file(name: &str, text: &str, blocks: &mut Blocks) -> Vec<Case> {
    let lines = logical(text);
    let own = lines.iter().any(|(_, l)| l.starts_with("case ") || l.starts_with("block "));
    let mut cases = Vec::new();
    let mut open: Option<String> = None;
    if !own {
        cases.push(Case { name: name.into(), ..Case::default() });
    }
    for (number, line) in lines {
        if let Some(rest) = line.strip_prefix("case ") {
            open = None;
            cases.push(Case { name: rest.trim().into(), ..Case::default() });
        } else if let Some(rest) = line.strip_prefix("block ") {
            let block = rest.split_whitespace().next().unwrap_or("").to_string();
            blocks.insert(block.clone(), Block { defaults: pairs(rest), lines: Vec::new() });
            open = Some(block);
        } else if let Some(block) = &open {
            blocks.get_mut(block).unwrap().lines.push((number, line));
        } else if let Some(case) = cases.last_mut() {
            let done = add(case, number, &line, blocks, 0);
            if let Err(e) = done {
                case.error.get_or_insert(format!("line {number}: {e}: {line}"));
            }
        }
    }
    if own {
        for case in cases.iter_mut().filter(|c| c.clauses.is_empty()) {
            case.error
                .get_or_insert("it holds no clause: add a line `rfc NUMBER SECTION: ...`".into());
        }
    }
    cases
}

fn add(case: &mut Case, number: usize, line: &str, blocks: &Blocks, depth: u32) -> Result<()> {
    if line.starts_with("rfc ") || line.starts_with("linux ") {
        case.clauses.push(line.into());
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("set ") {
        case.set.extend(pairs(rest));
        return Ok(());
    }
    if let Some(option) = line.strip_prefix("--") {
        for option in option.split_whitespace() {
            let (key, value) = option.split_once('=').unwrap_or((option, "1"));
            case.set.push((key.trim_start_matches("--").into(), value.into()));
        }
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("do ") {
        let name = rest.split_whitespace().next().unwrap_or("");
        let block = blocks.get(name).ok_or_else(|| format!("there is no block `{name}`"))?;
        if depth > 8 {
            return Err("blocks in a circle".into());
        }
        let mut values = block.defaults.clone();
        for (key, value) in pairs(rest) {
            let known = values.iter_mut().find(|(k, _)| *k == key);
            known.ok_or_else(|| format!("block `{name}` has no `{key}`"))?.1 = value;
        }
        // The longest first: `$ack` must not take the beginning of `$acked`.
        values.sort_by_key(|(k, _)| std::cmp::Reverse(k.len()));
        for (at, text) in &block.lines {
            let put = |text: String, (k, v): &(String, String)| text.replace(&format!("${k}"), v);
            let text = values.iter().fold(text.clone(), put);
            add(case, number, &text, blocks, depth + 1)
                .map_err(|e| format!("block `{name}`, line {at}: {e}"))?;
        }
        return Ok(());
    }
    case.events.push(event(number, line)?);
    Ok(())
}

fn when(c: &mut Cursor) -> Result<When> {
    let mut when = When { relative: true, from: 0, to: None, end: None, any: false };
    if c.eat("*") {
        when.any = true;
        return Ok(when);
    }
    let timed = c.rest.starts_with(|c: char| c == '+' || c == '.' || c.is_ascii_digit());
    if !timed {
        return Ok(when);
    }
    when.relative = c.eat("+");
    when.from = c.seconds()?;
    if c.eat("~") {
        c.eat("+");
        when.to = Some(c.seconds()?);
    }
    if c.eat("...") {
        c.eat("+");
        when.end = Some(c.seconds()?);
    }
    Ok(when)
}

fn event(line: usize, text: &str) -> Result<Event> {
    let mut c = Cursor::new(text);
    let c = &mut c;
    let when = when(c)?;
    let what = if c.eat("<") {
        What::Inject(text::packet(c)?)
    } else if c.eat(">") {
        What::Expect(text::packet(c)?)
    } else if c.eat("`") {
        What::Shell(c.until("`")?.into())
    } else if c.eat("%{") {
        What::Assert(c.until("}%")?.into())
    } else if c.eat_word("flow") {
        let name = c.word().to_string();
        let mut ends = c.rest.split('>').map(|e| e.trim().to_string());
        let mut end = || ends.next().ok_or("flow NAME REMOTE:PORT > LOCAL:PORT");
        What::Flow(name, end()?, end()?)
    } else if c.eat_word("do") {
        What::Do(std::mem::take(&mut c.rest).into())
    } else if c.rest == "quiet" {
        What::Quiet
    } else {
        What::Call(call(c)?)
    };
    Ok(Event { line, text: text.into(), when, what })
}

fn call(c: &mut Cursor) -> Result<Call> {
    let name = c.word().to_string();
    c.expect("(").map_err(|_| format!("`{name}` is no call, packet or other event"))?;
    let args = list(c, ")")?;
    c.expect("=")?;
    let result = if c.eat("?") { None } else { Some(c.number()?) };
    let errno = match c.peek_word() {
        "" => None,
        word => Some(word.to_string()),
    };
    Ok(Call { name, args, result, errno: errno.filter(|_| result == Some(-1)) })
}

fn list(c: &mut Cursor, end: &str) -> Result<Vec<Arg>> {
    let mut out = Vec::new();
    while !c.eat(end) {
        out.push(arg(c)?);
        if !c.eat(",") {
            c.expect(end)?;
            break;
        }
    }
    Ok(out)
}

fn arg(c: &mut Cursor) -> Result<Arg> {
    if c.eat("...") {
        return Ok(Arg::Ellipsis);
    }
    if c.eat("[") {
        return list(c, "]").map(Arg::List);
    }
    if c.eat("{") {
        return fields(c);
    }
    if c.eat("\"") {
        return Ok(Arg::Text(c.until("\"")?.into()));
    }
    let word = c.take(|c| c.is_ascii_alphanumeric() || "_-".contains(c)).to_string();
    if word.is_empty() {
        return Err(format!("no argument: `{}`", c.rest));
    }
    if c.eat("(") {
        return Ok(Arg::Apply(word, list(c, ")")?));
    }
    let mut names = word;
    while c.eat("|") {
        names = format!("{names}|{}", c.word());
    }
    Ok(Cursor::new(&names)
        .number()
        .ok()
        .filter(|_| !names.contains('|'))
        .map_or(Arg::Name(names), Arg::Int))
}

fn fields(c: &mut Cursor) -> Result<Arg> {
    let mut out = Vec::new();
    while !c.eat("}") {
        let first = arg(c)?;
        if c.eat("=") {
            let name = match first {
                Arg::Name(name) | Arg::Apply(name, _) => name,
                other => return Err(format!("no field: {other:?}")),
            };
            out.push((name, arg(c)?));
        } else {
            out.push((String::new(), first));
        }
        c.eat(",");
    }
    Ok(Arg::Struct(out))
}
