//! `pcap`: what the system's taps see, as a capture file.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error(
        "{at}: {source}\nstart the system with `cargo run`, or name it with --from ADDRESS:PORT"
    )]
    Connect {
        /// Where.
        at: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The system will not.
    #[error("the system refuses: {0}")]
    Refused(String),
    /// The connection, later.
    #[error("the capture has ended after {frames} frames: {source}")]
    Broken {
        /// What had come.
        frames: u64,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file.
    #[error("{path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// Bytes of a file's head, and of a record's.
const FILE_HEAD: usize = 24;
const RECORD_HEAD: usize = 16;
/// What a file begins with: nanoseconds, little-endian.
const MAGIC: [u8; 4] = 0xa1b2_3c4d_u32.to_le_bytes();
/// Longest record that makes sense.
const LONGEST: u32 = 1 << 18;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// Captures from `from` what `filter` wants into `path` (`-`: standard output), until `count` frames
/// have come, `time` is over or the system is gone. Returns how many came.
///
/// # Errors
/// [`Error`].
pub fn capture(
    from: &str,
    path: &str,
    filter: &str,
    count: Option<u64>,
    time: Option<Duration>,
) -> Result<u64, Error> {
    let begun = Instant::now();
    let outside = |source| Error::Connect { at: from.into(), source };
    let mut stream = TcpStream::connect(from).map_err(outside)?;
    stream.write_all(format!("{filter}\n").as_bytes()).map_err(outside)?;
    let mut stream = BufReader::new(stream);
    let start = stream.fill_buf().map_err(outside)?;
    if !start.starts_with(&MAGIC) {
        let mut line = String::new();
        let _ = stream.take(1000).read_line(&mut line);
        return Err(Error::Refused(line.trim().into()));
    }
    let failed = |source| Error::Write { path: path.into(), source };
    let mut out: Box<dyn Write> = match path {
        "-" => Box::new(std::io::stdout().lock()),
        path => Box::new(BufWriter::new(File::create(path).map_err(failed)?)),
    };
    let mut record = vec![0; FILE_HEAD];
    stream.read_exact(&mut record).map_err(outside)?;
    out.write_all(&record).and_then(|()| out.flush()).map_err(failed)?;
    let (mut frames, mut said) = (0, Instant::now());
    while count.is_none_or(|count| frames < count) {
        if let Some(time) = time {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            let _ = stream.get_ref().set_read_timeout(Some(left));
        }
        match read_record(&mut stream, &mut record) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            // The time is over.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(source) => return Err(Error::Broken { frames, source }),
        }
        frames += 1;
        out.write_all(&record).map_err(failed)?;
        if stream.buffer().is_empty() {
            // Whoever looks at the file, or is interrupted, has whole frames.
            out.flush().map_err(failed)?;
        }
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            eprint!("\r{frames} frames");
        }
    }
    out.flush().map_err(failed)?;
    Ok(frames)
}

/// A record, head and all.
fn read_record(from: &mut impl Read, record: &mut Vec<u8>) -> std::io::Result<()> {
    record.resize(RECORD_HEAD, 0);
    from.read_exact(record)?;
    let len = u32::from_le_bytes([record[8], record[9], record[10], record[11]]);
    if len > LONGEST {
        return Err(std::io::Error::other("a record that cannot be so long"));
    }
    record.resize(RECORD_HEAD + len as usize, 0);
    from.read_exact(&mut record[RECORD_HEAD..])
}
