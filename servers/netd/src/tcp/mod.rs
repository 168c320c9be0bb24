//! TCP (RFC 9293): one connection as a state machine without I/O.
//!
//! [`Conn`] is soft state around a hard [`Record`]: segments go in ([`Conn::segment`]), time goes
//! in ([`Conn::timer`]), the program's indices go in ([`Conn::wrote`], [`Conn::took`]), segments
//! come out one at a time ([`Conn::next_segment`]). Payload never passes through here: whoever
//! drives it asks [`Conn::plan`] where arriving bytes belong in the receive ring, and reads
//! what [`Out`] names from the send ring.
//!
//! | file | what |
//! |---|---|
//! | `segment` | what goes in and what comes of it |
//! | `handshake` | opening, and the SYNs on the way out (RFC 9293 3.5) |
//! | `input` | segment arrives (RFC 9293 3.10.7) |
//! | `validate` | which segments may speak (RFC 5961) |
//! | `predict` | the segment that was expected, straight away |
//! | `output` | what to send next (window, Nagle, silly windows, retransmission) |
//! | `straight` | the same for the segment that nearly every one is |
//! | `timers` | retransmission, persist, delayed ACK, TIME-WAIT |
//! | `recover` | a connection from its record alone |
//! | `delack` | when to acknowledge |
//! | `timestamps` | RFC 7323: what is echoed, PAWS |
//! | `ack` | what a segment acknowledges |
//! | `scoreboard`, `pool` | what is in flight |
//! | `rack`, `recovery`, `tail` | what is lost (RFC 8985), and what follows (RFC 6937), by ACKs and by time |
//! | `undo` | the way back if nothing was (RFC 3522, 3708, 5682) |
//! | `congestion` | how much may be in flight |
//! | `model`, `rate` | BBR's place and what feeds it |
//! | `fastopen` | data with and before the handshake (RFC 7413) |
//! | `probing` | what the path carries, if nobody says (RFC 4821) |
//! | `window`, `sndbuf` | how much is offered to the peer, and how much a program may write |
//! | `memory` | limits on what lies in rings |
//! | `ecn`, `pacing`, `train` | RFC 3168; a limit on the rate; what leaves together |
//! | `rtt`, `assembler` | the parts by their RFCs |

mod ack;
mod assembler;
#[cfg(feature = "crash-points")]
mod check;
pub mod congestion;
pub mod cookie;
mod delack;
pub mod ecn;
mod fastopen;
mod figures;
mod handshake;
mod info;
mod input;
mod memory;
mod model;
mod opts;
mod output;
mod pacing;
mod patience;
mod pool;
mod predict;
mod probing;
mod rack;
mod rate;
mod recover;
mod recovery;
mod rtt;
mod scoreboard;
mod segment;
mod shut;
mod sndbuf;
mod straight;
mod tail;
mod timers;
mod timestamps;
mod train;
mod undo;
mod urgent;
mod validate;
mod window;

use alloc::rc::Rc;
use bitflags::bitflags;
use libipc::sock::{Error, Record, State, option};

use crate::neigh::Place;
use crate::record::{self, Fixed, Hard, Journal};
use crate::wire::tcp::Seq;
use assembler::Assembler;
use congestion::{Ack, Algorithm, Congestion};
use delack::Delay;
use ecn::Owed;
use fastopen::Fast;
pub use fastopen::Lesson;
use figures::Figures;
pub use handshake::syn_ack;
pub use info::options as info_options;
pub use memory::{Gauge, Levels, Memory};
pub use opts::Opts;
pub use output::Out;
use patience::Patience;
pub use pool::Pool;
use probing::Search;
pub use recover::AppWords;
use recovery::Recovery;
use rtt::Rtt;
use scoreboard::Scoreboard;
pub use segment::{Outcome, Plan, Segment};
pub use straight::{MIN_TEXT, Next, Text};
use timestamps::PeerClock;
pub use timestamps::ticks;
use validate::CHALLENGE;
pub use validate::CHALLENGE_NS;
use window::Tuning;

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// Where what a connection knows lies.
pub struct Home {
    /// Its record.
    pub hard: Hard,
    /// Memory for what is in flight.
    pub pool: Rc<Pool>,
}

/// What does not change with a connection.
#[derive(Clone, Copy)]
pub struct Config {
    /// Largest segment that fits our link.
    pub mss: u16,
    /// Bytes of IP and TCP headers without options.
    pub headers: u16,
    /// Whether small segments wait for an ACK (Nagle, RFC 9293 3.7.4).
    pub nagle: bool,
    /// Whether silence makes it look for what the path carries (RFC 4821).
    pub mtu_probing: bool,
    /// What the program wants.
    pub opts: Opts,
}

bitflags! {
    /// What is owed to the peer besides data that the window allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Need: u8 {
        /// The SYN or SYN-ACK.
        const SYN = 1;
        /// An ACK now.
        const ACK = 2;
        /// The tail, to see whether it has arrived (RFC 8985 7).
        const TAIL = 4;
        /// At least a byte, whatever the window says.
        const PROBE = 8;
        /// A segment that makes a silent peer answer (RFC 9293 3.8.4).
        const KEEP = 16;
    }
}

/// A connection.
pub struct Conn {
    rec: &'static Record,
    journal: &'static Journal,
    /// Of the record.
    name: u32,
    config: Config,
    /// State; the record shows the same.
    state: State,
    /// [`libipc::sock::flags`] of the handshake.
    agreed: u16,
    passive: bool,
    orphan: bool,
    /// The program has ended receiving, or closed.
    deaf: bool,
    fast: Fast,

    iss: Seq,
    una: Seq,
    max: Seq,
    /// End of what the program has written.
    tail: Seq,
    fin: Option<Seq>,
    /// The program has more to write (MSG_MORE), and no ACK has come since.
    more: bool,
    /// What was written up to here is not corked.
    pushed: Seq,
    /// End of urgent data, until it is acknowledged.
    urgent: Option<Seq>,
    wnd: u32,
    max_wnd: u32,
    wl1: Seq,
    snd_shift: u8,
    /// Payload of a segment: `carries`, bound by the peer's window.
    mss: u32,
    /// What peer and path take.
    carries: u16,
    tx_size: u32,
    /// End of the last segment smaller than MSS (Minshall's variant of Nagle).
    small: Seq,
    cc: Congestion,
    /// What ECN owes the peer.
    owed: Owed,
    /// Data waits for its time ([`Conn::pacing_rate`]).
    pacing: bool,
    /// Up to when the rate is used up.
    pace_at: u64,
    recovery: Recovery,
    board: Scoreboard,
    rtt: Rtt,
    retries: u8,
    /// When the first retransmission left, or the first SYN; valid while `retries` is not 0.
    stuck_since: u64,
    patience: Patience,
    figures: Figures,
    last_sent: u64,

    ts_offset: u32,
    /// [`ticks`] when this began to speak, anew or after netd died.
    born: u32,
    /// When the first SYN left.
    syn_at: u64,
    /// Another did.
    syn_again: bool,
    peer_clock: PeerClock,

    irs: Seq,
    rcv_nxt: Seq,
    /// What the last segment that we sent acknowledged (`Last.ACK.sent`, RFC 7323).
    acked: Seq,
    rcv_adv: Seq,
    rcv_shift: u8,
    rx_size: u32,
    /// First byte that the program has not taken.
    head: Seq,
    tuning: Tuning,
    search: Search,
    ooo: Assembler,
    /// What arrived twice, to be said once (RFC 2883).
    twice: Option<(Seq, Seq)>,
    /// The peer's FIN, seen ahead of its turn.
    peer_fin: Option<Seq>,
    /// The peer's FIN has been taken.
    fin_taken: bool,

    need: Need,
    duplicate_acks: u8,
    delay: Delay,
    /// [`ticks`] when a segment out of place was answered last.
    challenged_at: u32,

    rto_at: u64,
    /// When to look whether something was lost, or to probe the tail.
    look_at: u64,
    probing: bool,
    ack_at: u64,
    misc_at: u64,

    /// What the stack found out about its addresses.
    pub known: Known,
}

/// What was found out about a connection's addresses, until the addresses of this host change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Of which version of the addresses a packet from peer to us was found to be in order; 0: none.
    pub from: u32,
    /// Of which version the way from us to the peer is; 0: none.
    pub way: u32,
    /// The neighbour on that way.
    pub neighbour: Place,
}

/// What an RST of ours says.
#[derive(Clone, Copy, Debug)]
pub struct Reset {
    /// Its number.
    pub seq: Seq,
    /// What it acknowledges.
    pub ack: Seq,
    /// The window that was offered last (Linux).
    pub window: u16,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.ooo.clear(self.board.pool());
    }
}

impl Conn {
    fn new(Home { hard, pool }: Home, fixed: &Fixed, config: Config, now: u64) -> Self {
        let mss = config.mss as u32;
        let (iss, congestion) = (fixed.iss, config.opts.congestion);
        let delayed = config.opts.has(option::DELAYED_ACK);
        let rx_size = 1 << fixed.rings.rx_bits;
        let tuning = Tuning::new(&config, rx_size);
        // In our SYN, before the peer's number is known.
        let offered = Seq(config.first_window(fixed.rings.rx_bits, false) as u32);
        Self {
            rec: hard.rec,
            journal: hard.journal,
            name: hard.name,
            config,
            state: State::SynSent,
            agreed: fixed.flags,
            passive: false,
            orphan: false,
            deaf: false,
            fast: Fast::empty(),
            iss,
            una: iss,
            max: iss,
            tail: iss + 1,
            fin: None,
            more: false,
            pushed: iss,
            urgent: None,
            wnd: 0,
            max_wnd: 0,
            wl1: Seq(0),
            snd_shift: 0,
            mss,
            carries: config.mss,
            tx_size: 1 << fixed.rings.tx_bits,
            small: iss,
            cc: Congestion::new(Algorithm::from_byte(congestion), mss, iss),
            owed: Owed::empty(),
            pacing: false,
            pace_at: 0,
            recovery: Recovery::new(iss),
            board: Scoreboard::new(pool),
            rtt: Rtt::new(),
            retries: 0,
            stuck_since: now,
            patience: Patience::new(now),
            figures: Figures::NONE,
            last_sent: now,
            ts_offset: fixed.ts_offset,
            born: ticks(now),
            syn_at: now,
            syn_again: false,
            peer_clock: PeerClock::UNKNOWN,
            irs: Seq(0),
            acked: Seq(0),
            rcv_nxt: Seq(0),
            rcv_adv: offered,
            rcv_shift: fixed.rcv_shift,
            rx_size,
            head: Seq(0),
            tuning,
            search: Search::NONE,
            ooo: Assembler::EMPTY,
            twice: None,
            peer_fin: None,
            fin_taken: false,
            need: Need::empty(),
            duplicate_acks: 0,
            delay: Delay::new(delayed),
            challenged_at: ticks(now).wrapping_sub(CHALLENGE),
            rto_at: NEVER,
            look_at: NEVER,
            probing: false,
            ack_at: NEVER,
            misc_at: NEVER,
            known: Known::default(),
        }
    }

    /// State.
    pub fn state(&self) -> State {
        self.state
    }
    /// Whether the program has closed it.
    pub fn is_orphan(&self) -> bool {
        self.orphan
    }
    /// Whether the handshake is over.
    pub fn is_synchronised(&self) -> bool {
        !matches!(self.state, State::SynSent | State::SynReceived | State::Closed)
    }
    /// What an RST of ours carries: a number that the peer's window has, and the next one expected.
    pub fn reset_numbers(&self) -> Reset {
        Reset { seq: self.ack_seq(), ack: self.rcv_nxt, window: self.stands() }
    }
    /// Whether the peer waits for an ACK of something.
    pub fn owes_ack(&self) -> bool {
        self.need.contains(Need::ACK) || self.duplicate_acks > 0 || self.ack_at != NEVER
    }
    /// Position in the stream of sequence number `seq` that we send, modulo 2^32.
    pub fn send_position(&self, seq: Seq) -> u32 {
        seq - (self.iss + 1)
    }
    /// Bytes received and not taken by the program.
    pub fn unread(&self) -> u32 {
        (self.rcv_nxt - self.head).wrapping_sub(self.fin_taken as u32)
    }
    /// Bytes written and not acknowledged.
    pub fn unsent(&self) -> u32 {
        let una = self.una.max(self.iss + 1).min(self.tail);
        self.tail - una
    }
    /// Whether `seq`, quoted by an ICMP error, is in flight (RFC 5927 4.1), or next.
    pub fn in_flight(&self, seq: Seq) -> bool {
        (self.una.le(seq) || seq == self.iss && self.is_fast_child()) && seq.le(self.max)
    }
    /// When [`Conn::timer`] is due, [`NEVER`] if it is not.
    pub fn deadline(&self) -> u64 {
        let rest = self.look_at.min(self.ack_at).min(self.misc_at);
        self.rto_at.min(rest).min(self.pace_deadline())
    }

    /// The record, for changes of its fixed part.
    fn hard(&self) -> Hard {
        Hard { rec: self.rec, journal: self.journal, name: self.name }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        record::set_state(self.rec, state);
    }

    fn publish_snd(&self) {
        // The program counts stream bytes: the SYN is passed from the beginning.
        record::set_snd(self.rec, self.una.max(self.iss + 1), self.max);
    }

    fn publish_rcv(&self) {
        let adv = if self.fin_taken { self.rcv_nxt - 1 } else { self.rcv_adv };
        record::set_rcv(self.rec, self.rcv_nxt, adv);
    }

    /// Ends the connection. The record is the tombstone: it is written before any RST leaves.
    pub fn end(&mut self, error: Option<Error>) -> Outcome {
        self.state = State::Closed;
        record::end(self.rec, error);
        (self.rto_at, self.ack_at, self.misc_at) = (NEVER, NEVER, NEVER);
        self.look_at = NEVER;
        self.board.clear();
        self.need = Need::empty();
        self.duplicate_acks = 0;
        Outcome::ENDED | Outcome::READY
    }

    /// The program's send index, as a count modulo 2^32. `false`: it is impossible.
    #[inline]
    pub fn wrote(&mut self, tail: u32) -> bool {
        let new = self.iss + 1 + tail;
        if self.fin.is_some() {
            // What is written after shutdown is not sent.
            return true;
        }
        if new == self.iss + 1 && self.flowed_early() {
            // Looked at before the program has counted what went with its SYN.
            return true;
        }
        if new.lt(self.tail) || new - self.una.max(self.iss + 1) > self.tx_size {
            return false;
        }
        if self.tail != new {
            self.tail = new;
            self.more = self.opts().has(option::MORE);
        }
        true
    }

    /// The program's receive index, as a count modulo 2^32. `false`: it is impossible.
    #[inline]
    pub fn took(&mut self, head: u32, now: u64) -> bool {
        if self.state == State::SynSent {
            return head == 0;
        }
        let new = self.irs + 1 + head;
        let end = self.rcv_nxt - self.fin_taken as u32;
        if new.lt(self.head) || !new.le(end) {
            return false;
        }
        if new == self.head {
            // Nothing was read: what the window has gained otherwise goes with the next ACK.
            return true;
        }
        self.head = new;
        if new == end {
            self.account_empty();
            self.all_read();
        }
        self.window_out(now);
        true
    }
}
