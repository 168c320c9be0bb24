//! A conversation between two programs, to its end.

use super::net::{Net, Weather};
use super::{Host, HostSpec, S, pattern};
use libipc::sock::{Kind, State};

/// One direction of a conversation as its programs see it.
pub struct Flow {
    total: u64,
    read: u64,
    shut: bool,
}

/// A conversation between a client on host 0 and a server on host 1.
pub struct Talk {
    pub client: u16,
    pub server: Option<u16>,
    listener: u16,
    /// 0: client to server.
    flows: [Flow; 2],
    closed: [bool; 2],
}

impl Talk {
    pub fn begin(net: &mut Net, up: u64, down: u64) -> Self {
        let listener = net.hosts[1].listen(80, 4);
        let client = net.hosts[0].open(Kind::Tcp);
        net.hosts[0].connect(client, "10.0.0.2:80").unwrap();
        let flow = |total| Flow { total, read: 0, shut: false };
        Self { client, server: None, listener, flows: [flow(up), flow(down)], closed: [false; 2] }
    }

    fn id(&self, side: usize) -> Option<u16> {
        if side == 0 { Some(self.client) } else { self.server }
    }

    /// What both programs do when they get the processor. `true`: both have everything.
    pub fn act(&mut self, net: &mut Net) -> bool {
        if self.server.is_none()
            && let Some((id, _)) = net.hosts[1].accept(self.listener)
        {
            self.server = Some(id);
        }
        for side in 0..2 {
            let Some(id) = self.id(side) else { continue };
            if self.closed[side] {
                continue;
            }
            let error = net.hosts[side].progs[0].record(id).error();
            assert_eq!(error, None, "side {side}, read {}", self.flows[1 - side].read);
            if net.hosts[side].progs[0].established(id) {
                self.serve(net, side, id);
            }
        }
        (0..2).all(|side| self.closed[side])
    }

    fn serve(&mut self, net: &mut Net, side: usize, id: u16) {
        let chunk = 1 + net.rng.below(20_000);
        let (rng_read, host) = (net.rng.below(4), &mut net.hosts[side]);
        let prog = &mut host.progs[0];
        prog.take_ready();
        let mut news = false;
        // Write.
        let out = &mut self.flows[side];
        let left = out.total - prog.tail[id as usize];
        if left > 0 {
            news |= prog.write_with(id, left.min(chunk), |at| pattern(side as u64, at)) > 0;
        }
        // Read, not always at once.
        let input = &mut self.flows[1 - side];
        if rng_read > 0 {
            let data = prog.read(id, chunk);
            for (i, b) in data.iter().enumerate() {
                assert_eq!(
                    *b,
                    pattern(1 - side as u64, input.read + i as u64),
                    "side {side} at {}",
                    input.read + i as u64
                );
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
        let out = &mut self.flows[side];
        if prog.tail[id as usize] == out.total && !out.shut {
            out.shut = true;
            host.shutdown(id);
        } else if out.shut && finished {
            host.close(id);
            self.closed[side] = true;
        }
    }
}

pub fn world(weather: Weather, seed: u64, offload: bool) -> Net {
    let spec = |n| HostSpec { offload, ..HostSpec::fixed(n) };
    Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], weather, seed)
}

/// Runs a conversation to its end; `disturb` may crash things. The pause between turns lets slow
/// readers be slow.
pub fn converse(
    net: &mut Net,
    up: u64,
    down: u64,
    seed: u64,
    mut disturb: impl FnMut(&mut Net, &Talk),
) {
    let mut talk = Talk::begin(net, up, down);
    let mut done = false;
    let limit = net.now + 3000 * S;
    while !done && net.now < limit {
        let until = net.now + 1 + net.rng.below(20_000_000);
        done = net.run(until, &mut |net| talk.act(net));
        net.now = net.now.max(until);
        disturb(net, &talk);
    }
    let read = [talk.flows[0].read, talk.flows[1].read];
    assert!(done, "seed {seed}: stuck at {read:?} of {:?}", [up, down]);
    // Both ends go away by themselves.
    net.pass(200 * S);
    for host in &mut net.hosts {
        host.collect_freed();
    }
    assert_eq!(net.hosts[0].progs[0].in_use(), 0, "seed {seed}: client's socket is back");
    assert_eq!(net.hosts[1].progs[0].state(talk.listener), State::Listen);
    assert_eq!(
        net.hosts[1].progs[0].in_use(),
        4,
        "seed {seed}: listener and three spares are left"
    );
}
