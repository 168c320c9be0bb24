//! `bench profile`: where the guest's instructions go while a load runs.

use std::collections::HashMap;

use super::counts::Block;
use super::figure::Figure;
use super::guests::{self, Running};
use super::load::Load;
use super::symbols::Symbols;
use super::{Error, Options, namespace};

/// Lines of each table.
const LINES: usize = 30;

/// Instructions by name.
type Shares = HashMap<String, f64>;

/// Boots our guest on a tap and profiles one load after the other.
pub fn run(options: &Options) -> Result<Vec<Figure>, Error> {
    options.parts(&[])?;
    let loads = options.loads_of(Load::ALL.to_vec());
    let plugin = super::counts::plugin()?;
    let (system, image) = guests::ours(true)?;
    let mut symbols = Symbols::load(&image)?;
    namespace::enter()?;
    guests::taps()?;
    let (mut guest, _) = guests::boot_tap(&system, options, Some((plugin, true)), None)?;
    for load in loads {
        one(&mut guest, load, options, &mut symbols)?;
    }
    Ok(Vec::new())
}

fn one(
    guest: &mut Running,
    load: Load,
    options: &Options,
    symbols: &mut Symbols,
) -> Result<(), Error> {
    // The first time warms up caches, ARP entries and QEMU's translations.
    let n = options.n.unwrap_or(load.usual());
    guest.load(load, (n / 10).max(1))?;
    let (before, counts) = (guest.counter()?.blocks()?, guest.counts()?);
    let outcome = guest.load(load, n)?;
    let counter = guest.counter()?;
    let (after, used) = (counter.blocks()?, counter.read()?.since(counts));
    let per = outcome.done as f64;
    println!(
        "\n=== {}: {} times, {:.6} instructions each; user {:.6}, kernel {:.6}; further iterations of \
         rep, not included: {:.6}",
        load.name(),
        outcome.done,
        used.plain() as f64 / per,
        used.user as f64 / per,
        used.kernel as f64 / per,
        used.repeated as f64 / per,
    );
    if counter.lost()? > 0 {
        println!("(too low: there was no room for {} blocks of code)", counter.lost()?);
    }
    let shares = attribute(&before, &after, symbols);
    let titles =
        ["binary", "function, with what was inlined into it", "function as written", "line"];
    for (title, shares) in titles.into_iter().zip(shares) {
        table(title, &shares, per);
    }
    Ok(())
}

/// Shares of binaries, of compiled functions, of functions as they were written, and of lines.
fn attribute(before: &[Block], after: &[Block], symbols: &mut Symbols) -> [Shares; 4] {
    let key = |b: &Block| (b.vaddr, b.instructions, b.code.clone());
    let earlier: HashMap<_, u64> = before.iter().map(|b| (key(b), b.runs)).collect();
    let mut shares: [Shares; 4] = Default::default();
    for b in after {
        let runs = b.runs - earlier.get(&key(b)).copied().unwrap_or(0);
        if runs == 0 {
            continue;
        }
        let instructions = (runs * b.instructions) as f64;
        let mut add = |table: usize, name: String, part: f64| {
            *shares[table].entry(name).or_default() += part;
        };
        let Some(owner) = symbols.owner(b) else {
            let name = format!("unknown {:#x}", b.vaddr);
            (0..4).for_each(|t| add(t, name.clone(), instructions));
            continue;
        };
        let binary = symbols.name(owner).to_string();
        add(0, binary.clone(), instructions);
        // Where in the block its instructions begin is not recorded: by bytes.
        let step = (b.len / b.instructions).max(1);
        let places: Vec<u64> = (b.vaddr..b.vaddr + b.len).step_by(step as usize).collect();
        let part = instructions / places.len() as f64;
        for at in places {
            add(1, format!("{binary}  {}", symbols.function(owner, at)), part);
            let place = symbols.written(owner, at);
            add(2, format!("{binary}  {}", place.function), part);
            add(3, format!("{binary}  {}", place.line), part);
        }
    }
    shares
}

fn table(title: &str, shares: &Shares, per: f64) {
    let total: f64 = shares.values().sum();
    let mut sorted: Vec<_> = shares.iter().collect();
    sorted.sort_by(|a, b| b.1.total_cmp(a.1));
    println!("\n{:>12} {:>6}  {title}", "each", "%");
    for (name, instructions) in sorted.into_iter().take(LINES) {
        println!("{:>12.4} {:>6.1}  {name}", instructions / per, instructions / total * 100.0);
    }
}
