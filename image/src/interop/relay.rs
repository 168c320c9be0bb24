//! The cable between the guest and Linux's tap interface: by default as it is; told so, one that loses, repeats,
//! delays, reorders and marks frames, with a limited rate, or none that arrives at all.
//!
//! A seed decides each frame's fate: the same frames in the same order fare the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smoltcp::phy::{self, Device, Medium, RxToken, TunTapInterface, TxToken};

use crate::harness::peer::cable::{self, Cable};

/// Frames that wait for the slower side; then its source has to wait.
const WAITING: usize = 256;
/// Bytes that wait for a limited rate; what comes then is lost.
const QUEUE: usize = 192 * 1024;
/// How long a quiet thread sleeps.
const TICK: Duration = Duration::from_millis(200);
/// Header and check sequence of Ethernet, and its shortest payload are not counted.
const HEADER: usize = 14;

/// What happens to frames in one direction. The default does nothing to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Of a thousand frames so many are lost.
    pub lost: u64,
    /// So many come twice.
    pub repeated: u64,
    /// So many are held back for `late`, behind those that follow.
    pub reordered: u64,
    /// So many of those with ECT get CE (RFC 3168).
    pub marked: u64,
    /// Each is that much late,
    pub delay: Duration,
    /// those held back so much more.
    pub late: Duration,
    /// Bytes a second.
    pub rate: Option<u64>,
}

impl Line {
    /// Nothing arrives.
    pub const CUT: Self = Self { lost: 1000, ..Self::CLEAN };
    /// As it is.
    pub const CLEAN: Self = Self {
        lost: 0,
        repeated: 0,
        reordered: 0,
        marked: 0,
        delay: Duration::ZERO,
        late: Duration::ZERO,
        rate: None,
    };
    /// A bad one.
    pub const BAD: Self = Self {
        lost: 15,
        repeated: 10,
        reordered: 30,
        marked: 0,
        delay: Duration::from_millis(5),
        late: Duration::from_millis(4),
        rate: None,
    };
}

/// Numbers by Steele, Lea and Flood's SplitMix64.
struct Chance(u64);

impl Chance {
    /// Whether something happens that happens `of` times in a thousand.
    fn happens(&mut self, of: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % 1000 < of
    }
}

/// One direction: what is under way, ordered by when it arrives.
struct Way {
    chance: Chance,
    flying: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    /// Bytes of those.
    bytes: usize,
    count: u64,
    /// When the line is free.
    free: Instant,
}

impl Way {
    fn new(seed: u64) -> Self {
        let flying = BinaryHeap::new();
        Self { chance: Chance(seed), flying, bytes: 0, count: 0, free: Instant::now() }
    }

    /// A frame sets out.
    fn take(&mut self, mut frame: Vec<u8>, line: &Line, now: Instant) {
        // Each decision is made for each frame, so that they do not depend on each other's settings.
        let [lost, twice, held, marked] =
            [line.lost, line.repeated, line.reordered, line.marked].map(|p| self.chance.happens(p));
        if lost || line.rate.is_some() && self.bytes + frame.len() > QUEUE {
            return;
        }
        if marked {
            mark(&mut frame);
        }
        let mut due = now + line.delay;
        if let Some(rate) = line.rate {
            let takes = Duration::from_nanos(frame.len() as u64 * 1_000_000_000 / rate.max(1));
            self.free = self.free.max(now) + takes;
            due = self.free + line.delay;
        }
        if held {
            due += line.late;
        }
        if twice {
            self.fly(due, frame.clone());
        }
        self.fly(due, frame);
    }

    fn fly(&mut self, due: Instant, frame: Vec<u8>) {
        self.count += 1;
        self.bytes += frame.len();
        self.flying.push(Reverse((due, self.count, frame)));
    }

    /// The next that has arrived.
    fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        let Reverse((due, ..)) = self.flying.peek()?;
        if *due > now {
            return None;
        }
        let Reverse((_, _, frame)) = self.flying.pop()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    fn next(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse((due, ..))| *due)
    }
}

/// Gives an IPv4 packet that may be marked the mark CE, and its header the sum for that.
fn mark(frame: &mut [u8]) {
    let v4 = frame.get(12..15).is_some_and(|t| t[..2] == [8, 0] && t[2] >> 4 == 4);
    let Some(header) = frame.get_mut(HEADER..HEADER + 20).filter(|_| v4) else { return };
    if header[1] & 3 == 0 || header[1] & 3 == 3 {
        return;
    }
    header[1] |= 3;
    header[10..12].fill(0);
    let sum: u32 = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

struct Shared {
    /// To the guest, to Linux.
    lines: Mutex<[Line; 2]>,
    recording: Mutex<Option<BufWriter<File>>>,
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shared {
    fn record(&self, frame: &[u8]) {
        if let Some(file) = locked(&self.recording).as_mut() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let len = frame.len() as u32;
            let head = [now.as_secs() as u32, now.subsec_nanos(), len, len];
            // A full disk shows when the file is read.
            let _ = file.write_all(&head.map(u32::to_le_bytes).concat());
            let _ = file.write_all(frame);
        }
    }
}

/// See the [module](self). It lives as long as the process.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Relay {
    /// Between the tap interface called `tap`, which is there, and one QEMU that will connect to [`Self::path`].
    ///
    /// # Errors
    /// If the interface or a socket cannot be opened.
    pub fn start(tap: &str, seed: u64) -> std::io::Result<Self> {
        let shared =
            Arc::new(Shared { lines: Mutex::new([Line::CLEAN; 2]), recording: Mutex::new(None) });
        let (path, listener) = cable::bind()?;
        let (to_guest, from_host) = sync_channel(WAITING);
        let (to_host, from_guest) = sync_channel(WAITING);
        let (name, side) = (tap.to_string(), shared.clone());
        let (opened, fd) = sync_channel(1);
        std::thread::spawn(move || match TunTapInterface::new(&name, Medium::Ethernet) {
            Ok(tap) => {
                let _ = opened.send(Ok(tap.as_raw_fd()));
                read_tap(tap, &to_guest, &side);
            }
            Err(e) => drop(opened.send(Err(e))),
        });
        let fd = fd.recv().map_err(std::io::Error::other)??;
        let side = shared.clone();
        std::thread::spawn(move || {
            let mut writer = tap_writer(fd);
            carry(&from_guest, 1, seed ^ 1, &side, |frame| {
                if let Some(token) = writer.transmit(smoltcp::time::Instant::ZERO) {
                    token.consume(frame.len(), |to| to.copy_from_slice(frame));
                }
            });
        });
        let side = shared.clone();
        std::thread::spawn(move || {
            let Ok(cable) = Cable::accept(&listener, TICK) else { return };
            let Ok(mut writer) = cable.try_clone() else { return };
            let other = side.clone();
            std::thread::spawn(move || {
                carry(&from_host, 0, seed, &other, |frame| drop(writer.send(frame)));
            });
            read_cable(cable, &to_host, &side);
        });
        Ok(Self { shared, path })
    }

    /// Where QEMU is to connect.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What happens to frames from now on.
    pub fn set(&self, to_guest: Line, to_host: Line) {
        *locked(&self.shared.lines) = [to_guest, to_host];
    }

    /// Records every frame in `file` as it sets out, until [`Self::stop_recording`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&self, file: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(file)?);
        // Nanoseconds, version 2.4, Ethernet.
        for word in [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 1 << 18, 1] {
            file.write_all(&word.to_le_bytes())?;
        }
        *locked(&self.shared.recording) = Some(file);
        Ok(())
    }

    /// The file is complete.
    pub fn stop_recording(&self) {
        *locked(&self.shared.recording) = None;
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        *locked(&self.recording) = None;
    }
}

/// A second view of the interface. It is not closed: the first is what closes it, with the process.
fn tap_writer(fd: RawFd) -> std::mem::ManuallyDrop<TunTapInterface> {
    let writer = TunTapInterface::from_fd(fd, Medium::Ethernet, 1514);
    std::mem::ManuallyDrop::new(writer.expect("it makes nothing"))
}

fn read_tap(mut tap: TunTapInterface, out: &SyncSender<Vec<u8>>, shared: &Shared) {
    let fd = tap.as_raw_fd();
    while phy::wait(fd, None).is_ok() {
        while let Some((frame, _)) = tap.receive(smoltcp::time::Instant::ZERO) {
            let frame = frame.consume(<[u8]>::to_vec);
            shared.record(&frame);
            if out.send(frame).is_err() {
                return;
            }
        }
    }
}

fn read_cable(mut cable: Cable, out: &SyncSender<Vec<u8>>, shared: &Shared) {
    while let Ok(frames) = cable.receive() {
        for frame in frames {
            shared.record(&frame);
            if out.send(frame).is_err() {
                return;
            }
        }
    }
}

/// Carries frames one way until their source is gone.
fn carry(
    from: &Receiver<Vec<u8>>,
    way: usize,
    seed: u64,
    shared: &Shared,
    mut out: impl FnMut(&[u8]),
) {
    let mut flying = Way::new(seed);
    loop {
        let wait = flying.next().map(|due| due.saturating_duration_since(Instant::now()));
        match from.recv_timeout(wait.unwrap_or(TICK)) {
            Ok(frame) => {
                let line = locked(&shared.lines)[way];
                if line == Line::CLEAN && flying.flying.is_empty() {
                    out(&frame);
                    continue;
                }
                flying.take(frame, &line, Instant::now());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while let Some(frame) = flying.arrived(now) {
            out(&frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which frames 0 to 999 arrive.
    fn fates(seed: u64, line: &Line) -> Vec<Vec<u8>> {
        let (mut way, begun) = (Way::new(seed), Instant::now());
        for i in 0..1000_u32 {
            way.take(i.to_be_bytes().to_vec(), line, begun + Duration::from_micros(i.into()));
        }
        let end = begun + Duration::from_secs(10);
        std::iter::from_fn(|| way.arrived(end)).collect()
    }

    #[test]
    fn a_seed_says_what_happens() {
        let bad = fates(7, &Line::BAD);
        assert_eq!(bad, fates(7, &Line::BAD));
        assert_ne!(bad, fates(8, &Line::BAD));
        let distinct: std::collections::BTreeSet<_> = bad.iter().collect();
        assert!((960..1000).contains(&distinct.len()), "{} of 1000 arrive", distinct.len());
        assert!(bad.len() > distinct.len() && bad.windows(2).any(|w| w[1] < w[0]));
        let clean: Vec<_> = (0..1000_u32).map(|i| i.to_be_bytes().to_vec()).collect();
        assert_eq!(fates(7, &Line::CLEAN), clean);
        assert!(fates(7, &Line::CUT).is_empty());
    }

    #[test]
    fn a_rate_spreads_frames_and_loses_those_that_do_not_fit() {
        let line = Line { rate: Some(1_000_000), ..Line::CLEAN };
        let (mut way, now) = (Way::new(1), Instant::now());
        for _ in 0..1000 {
            way.take(vec![0; 1000], &line, now);
        }
        let soon = std::iter::from_fn(|| way.arrived(now + Duration::from_millis(51))).count();
        let all = soon + std::iter::from_fn(|| way.arrived(now + Duration::from_secs(9))).count();
        assert!((50..=51).contains(&soon) && all == QUEUE / 1000, "{soon} of {all}");
    }

    #[test]
    fn marks_keep_the_sum() {
        let mut frame = vec![0; 14];
        frame[12] = 8;
        frame.extend([0x45, 2, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x26, 0xb9, 10, 9, 0, 1, 10, 9, 0, 2]);
        let plain = frame.clone();
        mark(&mut frame);
        let sum: u32 = frame[14..].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        assert_eq!((frame[15], (sum & 0xffff) + (sum >> 16)), (3, 0xffff));
        let mut not_capable = plain;
        not_capable[15] = 0;
        let before = not_capable.clone();
        mark(&mut not_capable);
        assert_eq!(not_capable, before);
    }
}
