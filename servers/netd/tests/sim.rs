//! Everything that goes wrong in networks, one thing after another and together, as a seed decides:
//! loss, delay, reordering, duplication, corruption, links that flap, routers with a smaller MTU, no
//! answer to ARP or neighbour discovery, stacks that die at any store or emission and are built again from their records,
//! peers that vanish or forget.
//!
//! `SEED=n cargo test -p netd --test sim NAME` repeats one and prints its timeline when it fails
//! (`TRACE=1 … -- --nocapture`: all of it); `SEEDS=1000000` runs that many. Times are virtual.

mod common;

use common::net::{Net, Path, Weather};
use common::talk::{Talk, act, finish};
use common::{Host, HostSpec, MS, Rng, S, pattern};
use libipc::sock::{Error, Kind};
use netd::Addressing6;

/// One thing that is wrong for a while.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Weather(Weather),
    Mtu(u16),
    NoArp,
    /// The cable of a host is out.
    Unplugged(usize),
    /// Nothing gets through between any two.
    Cut,
    /// Stacks die within so many crash points, so often (per mille of the looks at it).
    Crashes(u64, u64),
}

impl Trouble {
    fn any(rng: &mut Rng, hosts: u64) -> Self {
        match rng.below(8) {
            0 | 1 => Self::Weather(Weather {
                loss: rng.below(300),
                duplication: rng.below(100),
                corruption: rng.below(60),
                delay: 1 + rng.below(100 * MS),
                jitter: rng.below(60 * MS),
            }),
            // Only order: what looks like loss is none.
            2 => Self::Weather(Weather { jitter: rng.below(40 * MS), ..Weather::FINE }),
            3 => Self::Mtu(600 + rng.below(900) as u16),
            4 => Self::NoArp,
            5 => Self::Unplugged(rng.below(hosts) as usize),
            6 => Self::Cut,
            _ => Self::Crashes(100 + rng.below(600), 1 + rng.below(80)),
        }
    }
}

/// Times of trouble; calm between them.
struct Plan {
    phases: Vec<(u64, u64, Vec<Trouble>)>,
    calm: Weather,
}

impl Plan {
    /// From `now` on.
    fn new(rng: &mut Rng, hosts: u64, now: u64) -> Self {
        let mut at = now + rng.below(300 * MS);
        let phases = (0..1 + rng.below(5))
            .map(|_| {
                // Mostly short, as the data goes by fast.
                let len = if rng.chance(200) { rng.below(8 * S) } else { rng.below(500 * MS) };
                let from = at;
                at = from + len + rng.below(S);
                let troubles = (0..1 + rng.below(2)).map(|_| Trouble::any(rng, hosts)).collect();
                (from, from + len, troubles)
            })
            .collect();
        let calm = Weather { delay: 1 + rng.below(50 * MS), ..Weather::FINE };
        Self { phases, calm }
    }

    /// Sets the world as it is to be now. Returns when trouble last ended, `None` while there is some.
    fn apply(&self, net: &mut Net) -> Option<u64> {
        (net.weather, net.path) = (self.calm, Path::default());
        netd::crash::cancel();
        let mut unplugged = 0;
        let now = net.now;
        let mut last = Some(0);
        for (from, until, troubles) in &self.phases {
            if *until <= now {
                last = Some(*until);
            } else if *from <= now {
                last = None;
                for t in troubles {
                    match *t {
                        Trouble::Weather(w) => net.weather = w,
                        Trouble::Mtu(mtu) => net.path.mtu = Some(mtu),
                        Trouble::NoArp => net.path.arp_loss = 1000,
                        Trouble::Unplugged(host) => unplugged |= 1 << host,
                        Trouble::Cut => net.path.silent = !0,
                        Trouble::Crashes(often, points) => {
                            if net.rng.chance(often) {
                                netd::crash::plan(net.rng.below(points) as i64);
                            }
                        }
                    }
                }
            }
        }
        for (i, host) in net.hosts.iter_mut().enumerate() {
            host.plug(unplugged >> i & 1 == 0);
        }
        net.path.silent |= unplugged;
        last
    }
}

fn spec(rng: &mut Rng, n: u8, ip6: Addressing6) -> HostSpec {
    let offload = rng.chance(500);
    HostSpec {
        ip6,
        sockets: 32,
        offload,
        tx_bits: 12 + rng.below(5) as u8,
        rx_bits: 12 + rng.below(5) as u8,
        ..HostSpec::fixed(n)
    }
}

fn world(rng: &mut Rng, hosts: u8, ip6: Addressing6) -> Net {
    let hosts = (1..=hosts).map(|n| Host::new(spec(rng, n, ip6))).collect();
    let mut net = Net::new(hosts, Weather::FINE, rng.next());
    if ip6 == Addressing6::Auto {
        // Until the addresses are known to be nobody else's.
        net.pass(4 * S);
    }
    net
}

/// The address of host `n` that its neighbours know.
fn address(n: u64, ip6: Addressing6, port: u64) -> String {
    match ip6 {
        Addressing6::Auto => format!("[fe80::ff:fe00:{:x}]:{port}", n + 1),
        _ => format!("10.0.0.{}:{port}", n + 1),
    }
}

fn size(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => rng.below(10),
        1 => rng.below(3000),
        _ => rng.below(200_000),
    }
}

/// Lets conversations go on to their end. `trouble` changes the world and says since when it is
/// calm, if it is. A conversation that does not get on must have a reason: the back-off of RFC 6298
/// at most doubles the time since trouble began, and stays until something is measured again.
fn run(net: &mut Net, talks: &mut [Talk], mut trouble: impl FnMut(&mut Net) -> Option<u64>) {
    let mut moved: Vec<(u64, u64)> = talks.iter().map(|_| (u64::MAX, net.now)).collect();
    let limit = net.now + 3000 * S;
    loop {
        let calm = trouble(net);
        let until = net.now + 1 + net.rng.below(20 * MS);
        if net.run(until, &mut |net| act(net, talks)) {
            return;
        }
        net.now = net.now.max(until);
        net.hosts.iter_mut().for_each(|h| h.stack().check());
        assert!(net.now < limit, "no end in sight");
        for (talk, moved) in talks.iter().zip(&mut moved) {
            let progress = talk.progress(net);
            if progress != moved.0 {
                *moved = (progress, net.now);
            } else if let Some(since) = calm
                && !talk.is_over()
            {
                assert!(
                    net.now <= since.max(moved.1) + since + 5 * S,
                    "stalled since {} ms, calm since {} ms: {:?}",
                    moved.1 / MS,
                    since / MS,
                    talk.read()
                );
            }
        }
    }
}

fn troubles(seeds: u64, ip6: Addressing6) {
    common::quiet_crashes();
    let mut crashes = 0;
    let ran = fuzz::each(seeds, |r| {
        let mut rng = Rng(r.word());
        let hosts = 2 + rng.below(2);
        let mut net = world(&mut rng, hosts as u8, ip6);
        let mut talks: Vec<_> = (0..1 + rng.below(4))
            .map(|i| {
                let (from, to) = (rng.below(hosts), rng.below(hosts));
                let at = [from as usize, to as usize];
                let addr = address(to, ip6, 80 + i);
                Talk::begin(&mut net, at, &addr, 2, size(&mut rng), size(&mut rng))
            })
            .collect();
        let plan = Plan::new(&mut rng, hosts, net.now);
        run(&mut net, &mut talks, |net| plan.apply(net));
        finish(&mut net, &talks);
        crashes += net.hosts.iter().map(|h| h.crashes).sum::<u64>();
    });
    assert!(ran == 1 || crashes > ran / 2, "{crashes} crashes");
}

#[test]
fn troubles_v4() {
    troubles(1200, Addressing6::Off);
}

#[test]
fn troubles_v6() {
    troubles(600, Addressing6::Auto);
}

/// Datagrams that arrive are what was sent, whatever happens to them, to their fragments and to the
/// stacks; and once it is calm they arrive.
#[test]
fn datagrams() {
    common::quiet_crashes();
    let (mut sent, mut came) = (0, 0);
    fuzz::each(300, |r| {
        let mut rng = Rng(r.word());
        let ip6 = if rng.chance(500) { Addressing6::Auto } else { Addressing6::Off };
        let mut net = world(&mut rng, 2, ip6);
        let server = net.hosts[1].open(Kind::Udp);
        let any = if ip6 == Addressing6::Auto { "[::]:7" } else { "0.0.0.0:7" };
        net.hosts[1].bind(server, any).unwrap();
        let client = net.hosts[0].open(Kind::Udp);
        let to = address(1, ip6, 7).parse().unwrap();
        let plan = Plan::new(&mut rng, 2, net.now);
        // A datagram: its number, and up to half a ring of 4 KiB.
        let (mut number, mut calm) = (0u64, 0);
        while calm < 5 {
            let quiet = plan.apply(&mut net).is_some_and(|since| net.now > since + 5 * S);
            let len = rng.below(1900);
            if net.hosts[0].progs[0].dgram_room(client) > len + 100 {
                let data = (0..len).map(|at| pattern(number, at));
                let data: Vec<u8> = number.to_be_bytes().into_iter().chain(data).collect();
                net.hosts[0].progs[0].put_to(client, Some(to), &data);
                number += 1;
            }
            net.hosts[0].progs[0].submit(client);
            net.run(net.now + 1 + rng.below(if quiet { 2 * S } else { 200 * MS }), &mut |_| false);
            let mut heard = false;
            while let Some((_, data)) = net.hosts[1].progs[0].recv_from(server) {
                let (head, rest) = data.split_first_chunk().expect("a number");
                let n = u64::from_be_bytes(*head);
                assert!(n < number, "datagram {n} was never sent");
                let right = rest.iter().zip(0..).all(|(b, at)| *b == pattern(n, at));
                assert!(right, "datagram {n} of {} bytes is another", data.len());
                (heard, came) = (true, came + 1);
            }
            calm = if quiet && heard { calm + 1 } else { calm };
            assert!(net.now < 200 * S, "nothing arrives in calm weather");
        }
        sent += number;
    });
    assert!(came > sent / 4, "{came} of {sent} arrived");
}

/// A peer that is gone for ever, or back without a memory, ends connections with the right error.
#[test]
fn vanished() {
    common::quiet_crashes();
    let (mut timed_out, mut reset) = (0, 0);
    let ran = fuzz::each(120, |r| {
        let mut rng = Rng(r.word());
        let mut net = world(&mut rng, 2, Addressing6::Off);
        let mut talks = [Talk::begin(&mut net, [0, 1], "10.0.0.2:80", 2, 9_000_000, 300_000)];
        // Whoever asks in vain for the peer's address gives up with that error.
        talks[0].allowed =
            &[Error::TimedOut, Error::HostUnreachable, Error::ConnectionReset, Error::BrokenPipe];
        // Long enough for the handshake, never for the data.
        let gone = 10 * MS + rng.below(40 * MS);
        net.weather.delay = 2 * MS;
        net.run(gone, &mut |net| act(net, &mut talks));
        let forgets = rng.chance(500);
        if forgets {
            net.pass(rng.below(3 * S));
            let spec = net.hosts[1].spec.clone();
            let now = net.now;
            net.hosts[1] = Host::new(spec);
            net.hosts[1].now = now;
        } else {
            net.path.silent = 2;
        }
        // The last retransmission of tcp_retries2 = 15 waits for up to 924.6 s and more.
        net.run(net.now + 1500 * S, &mut |net| {
            act(net, &mut talks);
            talks[0].errors[0].is_some()
        });
        match talks[0].errors[0] {
            Some(Error::TimedOut | Error::HostUnreachable) if !forgets => timed_out += 1,
            // Whose peer had closed before sees a broken pipe, as on Linux.
            Some(Error::ConnectionReset | Error::BrokenPipe) if forgets => reset += 1,
            other => panic!("forgets: {forgets}, ended with {other:?}"),
        }
    });
    assert!(ran == 1 || timed_out > 0 && reset > 0);
}
