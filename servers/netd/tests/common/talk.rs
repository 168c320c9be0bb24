//! A conversation between two programs, to its end. Programs act when netd has told them to, so a
//! forgotten announcement is a conversation that never ends.

use super::net::{Net, Weather};
use super::{Host, HostSpec, S, pattern};
use libipc::sock::{Error, Kind, State};
use netd::Addressing6;

/// One direction of a conversation as its programs see it.
struct Flow {
    total: u64,
    read: u64,
    shut: bool,
}

/// A conversation between a client (side 0) and a server (side 1).
pub struct Talk {
    /// Which hosts they are on.
    at: [usize; 2],
    addr: String,
    client: u16,
    server: Option<u16>,
    listener: u16,
    /// 0: client to server.
    flows: [Flow; 2],
    closed: [bool; 2],
    /// The program has reason to look at its socket.
    look: [bool; 2],
    /// Errors that may end it early.
    pub allowed: &'static [Error],
    /// What ended each side early.
    pub errors: [Option<Error>; 2],
}

impl Talk {
    /// A client on host `at[0]` connects to a server at `addr`, on host `at[1]`.
    pub fn begin(
        net: &mut Net,
        at: [usize; 2],
        addr: &str,
        spares: u16,
        up: u64,
        down: u64,
    ) -> Self {
        let port = addr.rsplit(':').next().unwrap().parse().unwrap();
        let listener = match addr.starts_with('[') {
            true => net.hosts[at[1]].listen_at(&format!("[::]:{port}"), spares),
            false => net.hosts[at[1]].listen(port, spares),
        };
        let client = net.hosts[at[0]].open(Kind::Tcp);
        net.hosts[at[0]].connect(client, addr).unwrap();
        let flow = |total| Flow { total, read: 0, shut: false };
        Self {
            at,
            addr: addr.into(),
            client,
            server: None,
            listener,
            flows: [flow(up), flow(down)],
            closed: [false; 2],
            look: [false; 2],
            allowed: &[],
            errors: [None; 2],
        }
    }

    /// A number that moves when the conversation gets on.
    pub fn progress(&self, net: &Net) -> u64 {
        let side = |i: usize| {
            let Some(id) = self.id(i).filter(|_| !self.closed[i]) else { return 1 << 40 };
            let prog = &net.hosts[self.at[i]].progs[0];
            prog.tail[id as usize] + prog.record(id).acknowledged() as u64
        };
        side(0) + side(1) + self.flows[0].read + self.flows[1].read
    }

    pub fn read(&self) -> [u64; 2] {
        [self.flows[0].read, self.flows[1].read]
    }
    pub fn is_over(&self) -> bool {
        self.closed == [true; 2]
    }

    fn id(&self, side: usize) -> Option<u16> {
        if side == 0 { Some(self.client) } else { self.server }
    }

    /// netd has announced `ids` to the program on host `host`.
    fn heard(&mut self, net: &mut Net, host: usize, ids: &[u16]) {
        if self.at[1] == host
            && ids.contains(&self.listener)
            && self.server.is_none()
            && let Some((id, _)) = net.hosts[host].accept(self.listener)
        {
            self.server = Some(id);
            self.look[1] = true;
        }
        for side in 0..2 {
            self.look[side] |=
                self.at[side] == host && self.id(side).is_some_and(|id| ids.contains(&id));
        }
    }

    /// What both programs do when they get the processor.
    fn act(&mut self, net: &mut Net) {
        for side in 0..2 {
            let Some(id) = self.id(side) else { continue };
            if self.closed[side] || !std::mem::take(&mut self.look[side]) {
                continue;
            }
            let error = net.hosts[self.at[side]].progs[0].record(id).error();
            if error == Some(Error::HostUnreachable) && side == 0 && self.server.is_none() {
                // Nobody answered ARP: as a program would, again.
                let host = &mut net.hosts[self.at[0]];
                host.close(id);
                self.client = host.open(Kind::Tcp);
                host.connect(self.client, &self.addr).unwrap();
                continue;
            }
            if let Some(error) = error {
                assert!(
                    self.allowed.contains(&error),
                    "{error:?} on side {side} at {:?}",
                    self.read()
                );
                net.hosts[self.at[side]].close(id);
                (self.closed[side], self.errors[side]) = (true, Some(error));
                continue;
            }
            if net.hosts[self.at[side]].progs[0].established(id) {
                self.serve(net, side, id);
            }
        }
    }

    fn serve(&mut self, net: &mut Net, side: usize, id: u16) {
        let chunk = 1 + net.rng.below(20_000);
        let (lazy, host) = (net.rng.below(4) == 0, &mut net.hosts[self.at[side]]);
        let prog = &mut host.progs[0];
        let mut news = false;
        let out = &mut self.flows[side];
        let left = out.total - prog.tail[id as usize];
        if left > 0 {
            news |= prog.write_with(id, left.min(chunk), |at| pattern(side as u64, at)) > 0;
        }
        let input = &mut self.flows[1 - side];
        if !lazy {
            let data = prog.read(id, chunk);
            for (i, b) in data.iter().enumerate() {
                let at = input.read + i as u64;
                assert_eq!(*b, pattern(1 - side as u64, at), "side {side} at {at}");
            }
            input.read += data.len() as u64;
            news |= !data.is_empty();
        }
        let finished = prog.peer_closed(id) && prog.available(id) == 0;
        if finished {
            assert_eq!(input.read, input.total, "side {side}: FIN before the end");
        }
        if news {
            prog.submit(id);
        }
        // Who got somewhere, or did not even try, looks again; the others wait to be told.
        self.look[side] |= news || lazy;
        let out = &mut self.flows[side];
        if prog.tail[id as usize] == out.total && !out.shut {
            out.shut = true;
            self.look[side] = true;
            host.shutdown(id);
        } else if out.shut && finished {
            host.close(id);
            self.closed[side] = true;
        }
    }
}

/// Lets all programs act. `true`: all conversations are over.
pub fn act(net: &mut Net, talks: &mut [Talk]) -> bool {
    for host in 0..net.hosts.len() {
        let prog = &mut net.hosts[host].progs[0];
        if std::mem::take(&mut prog.signalled) {
            let ids = prog.take_ready();
            for talk in &mut *talks {
                talk.heard(net, host, &ids);
            }
        }
    }
    for talk in &mut *talks {
        talk.act(net);
    }
    talks.iter().all(Talk::is_over)
}

/// Two hosts on a wire.
pub fn world(weather: Weather, seed: u64, offload: bool) -> Net {
    // Room for long pieces, where the NIC cuts them into segments.
    let bits = if offload { 16 } else { 14 };
    let spec = |n| HostSpec { offload, tx_bits: bits, rx_bits: bits, ..HostSpec::fixed(n) };
    Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], weather, seed)
}

/// Two hosts on a wire that speak IPv6, when their addresses are settled: fe80::ff:fe00:1 and :2.
pub fn world_v6(weather: Weather, seed: u64, offload: bool) -> Net {
    let spec = |n| HostSpec { offload, ip6: Addressing6::Auto, ..HostSpec::fixed(n) };
    let mut net = Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], Weather::FINE, seed);
    net.pass(4 * S);
    net.weather = weather;
    net
}

/// Runs conversations to their end; `disturb` may plan crashes. The pauses between turns let slow
/// readers be slow. Then [`finish`].
pub fn converse(net: &mut Net, talks: &mut [Talk], seed: u64, mut disturb: impl FnMut(&mut Net)) {
    let mut done = false;
    let limit = net.now + 3000 * S;
    while !done && net.now < limit {
        let until = net.now + 1 + net.rng.below(20_000_000);
        done = net.run(until, &mut |net| act(net, talks));
        if !done {
            // Else what is on its way would come late.
            net.now = net.now.max(until);
        }
        disturb(net);
    }
    let read: Vec<_> = talks.iter().map(Talk::read).collect();
    assert!(done, "seed {seed}: stuck at {read:?}");
    finish(net, talks);
}

/// Conversations are over: soon every socket but the listeners and their spares is free.
pub fn finish(net: &mut Net, talks: &[Talk]) {
    netd::crash::cancel();
    net.pass(200 * S);
    for host in &mut net.hosts {
        host.collect_freed();
    }
    for (i, host) in net.hosts.iter().enumerate() {
        let listeners = talks.iter().filter(|t| t.at[1] == i);
        let left: usize = listeners
            .map(|t| {
                assert_eq!(host.progs[0].state(t.listener), State::Listen);
                1 + host.spares_of(t.listener)
            })
            .sum();
        assert_eq!(host.progs[0].in_use(), left, "host {i} has listeners and spares left");
    }
}
