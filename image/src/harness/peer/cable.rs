//! QEMU's `-netdev stream`: each frame behind its length, a big-endian u32.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Longest frame of the backend (NET_BUFSIZE in QEMU is little more).
const LONGEST: usize = 65_535;

/// One end of a cable.
pub struct Cable {
    socket: UnixStream,
    /// What has come and is not a whole frame yet.
    rest: Vec<u8>,
}

/// A socket at a fresh path.
///
/// # Errors
/// If there is no place for it.
pub fn bind() -> std::io::Result<(PathBuf, UnixListener)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Relaxed);
    let path = std::env::temp_dir().join(format!("breakwater-{}-{n}.net", std::process::id()));
    // Left over from a process of the same number, long gone.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    Ok((path, listener))
}

impl Cable {
    /// Takes QEMU's connection; [`Self::receive`] waits at most `tick`.
    ///
    /// # Errors
    /// If nobody connects.
    pub fn accept(listener: &UnixListener, tick: Duration) -> std::io::Result<Self> {
        let (socket, _) = listener.accept()?;
        Self::new(socket, tick)
    }

    /// The same cable once more: one view receives, the other sends.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, rest: Vec::new() })
    }

    fn new(socket: UnixStream, tick: Duration) -> std::io::Result<Self> {
        socket.set_read_timeout(Some(tick))?;
        Ok(Self { socket, rest: Vec::new() })
    }

    /// The frames that have come, after a tick perhaps none.
    ///
    /// # Errors
    /// The other end is gone, or says nonsense.
    pub fn receive(&mut self) -> std::io::Result<Vec<Vec<u8>>> {
        let mut buffer = [0; 65_536];
        match self.socket.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.rest.extend_from_slice(&buffer[..n]),
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {}
            Err(e) => return Err(e),
        }
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some((head, body)) = self.rest[at..].split_first_chunk::<4>() {
            let len = u32::from_be_bytes(*head) as usize;
            if len > LONGEST {
                return Err(ErrorKind::InvalidData.into());
            }
            let Some(frame) = body.get(..len) else { break };
            frames.push(frame.to_vec());
            at += 4 + len;
        }
        self.rest.drain(..at);
        Ok(frames)
    }

    /// Sends a frame. One of no bytes would wedge QEMU's backend for good, so it is left out.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        if frame.is_empty() || frame.len() > LONGEST {
            return Ok(());
        }
        self.socket.write_all(&(frame.len() as u32).to_be_bytes())?;
        self.socket.write_all(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut cable = Cable::new(ours, Duration::from_millis(1)).unwrap();
        assert!(cable.receive().unwrap().is_empty());
        let bytes = [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9];
        let mut frames = Vec::new();
        for b in bytes {
            theirs.write_all(&[b]).unwrap();
            frames.extend(cable.receive().unwrap());
        }
        assert_eq!(frames, [vec![7, 8], vec![9]]);
        cable.send(&[]).unwrap();
        cable.send(&[1, 2, 3]).unwrap();
        let mut got = [0; 7];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(got, [0, 0, 0, 3, 1, 2, 3]);
        drop(theirs);
        assert!(cable.receive().is_err());
    }
}
