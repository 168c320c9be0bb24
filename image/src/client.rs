//! What tests do to the system from outside: a web client and echo clients.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request or the connection.
    #[error("{url}: {source}")]
    Http {
        /// What was asked for.
        url: String,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// The body.
    #[error("{url}: after {received} bytes: {source}")]
    Body {
        /// What was asked for.
        url: String,
        /// How much had come.
        received: u64,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A socket.
    #[error("{what}: {source}")]
    Socket {
        /// Which operation.
        what: &'static str,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Other bytes came back.
    #[error("byte {at} came back changed")]
    Changed {
        /// Where.
        at: usize,
    },
    /// No answer to a datagram, sent several times.
    #[error("no answer to a datagram of {0} bytes")]
    Lost(usize),
}

/// A body: how long it was, and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Bytes.
    pub len: u64,
    /// SHA-256.
    pub digest: [u8; 32],
    /// The first bytes, at most a page of text.
    pub head: Vec<u8>,
}

/// How long a connection may stand still. A restarting server is back within milliseconds; the
/// rest is for busy machines.
const STILL: Duration = Duration::from_secs(60);
/// How long a whole body may take.
const WHOLE: Duration = Duration::from_secs(600);
/// Bytes of a body that are kept.
const HEAD: usize = 64 * 1024;

/// GETs `path` from the system's web server, behind `port` of the host.
///
/// # Errors
/// If the connection fails, the status is an error, or the body ends early.
pub fn get(port: u16, path: &str) -> Result<Body, Error> {
    get_while(port, path, |_| {})
}

/// As [`get`]; `progress` is told how many bytes have come, again and again, and may take its time.
///
/// # Errors
/// As [`get`].
pub fn get_while(port: u16, path: &str, mut progress: impl FnMut(u64)) -> Result<Body, Error> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(STILL))
        .timeout_recv_response(Some(STILL))
        .timeout_recv_body(Some(WHOLE))
        .max_idle_connections(0)
        .build();
    let response = ureq::Agent::new_with_config(config).get(&url).call();
    let response = match response {
        Ok(r) => r,
        Err(e) => return Err(Error::Http { url, source: Box::new(e) }),
    };
    let mut reader = response.into_body().into_reader();
    let (mut hash, mut len, mut head) = (Sha256::new(), 0, Vec::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Body { len, digest: hash.finalize().into(), head }),
            Ok(n) => {
                hash.update(&buffer[..n]);
                head.extend_from_slice(&buffer[..n.min(HEAD - head.len().min(HEAD))]);
                len += n as u64;
                progress(len);
            }
            Err(source) => return Err(Error::Body { url, received: len, source }),
        }
    }
}

/// SHA-256 of the first `len` bytes that `/bytes` serves, from the same definition.
pub fn expected_digest(len: u64) -> [u8; 32] {
    let (mut hash, mut at) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    while at < len {
        let n = (len - at).min(buffer.len() as u64) as usize;
        userland::bytes::fill(at, &mut buffer[..n]);
        hash.update(&buffer[..n]);
        at += n as u64;
    }
    hash.finalize().into()
}

/// In hexadecimal, as `/bytes/N/sha256` writes it.
pub fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Sends `len` bytes to a TCP echo behind `port`, reading while writing, then closes its sending
/// half and checks that everything came back, and then the end.
///
/// # Errors
/// If the connection fails or other bytes come back.
pub fn echo_tcp(port: u16, len: usize) -> Result<(), Error> {
    let fail = |what| move |source| Error::Socket { what, source };
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(fail("connect"))?;
    stream.set_read_timeout(Some(STILL)).map_err(fail("time-out"))?;
    stream.set_write_timeout(Some(STILL)).map_err(fail("time-out"))?;
    let mut sent = vec![0; len];
    userland::bytes::fill(0, &mut sent);
    let mut writer = stream.try_clone().map_err(fail("clone"))?;
    let copy = sent.clone();
    let sending = std::thread::spawn(move || {
        writer.write_all(&copy).and_then(|()| writer.shutdown(Shutdown::Write))
    });
    let mut got = Vec::with_capacity(len);
    stream.read_to_end(&mut got).map_err(fail("receive"))?;
    match sending.join() {
        Ok(result) => result.map_err(fail("send"))?,
        Err(_) => unreachable!("the sender does not panic"),
    }
    match first_difference(&sent, &got) {
        Some(at) => Err(Error::Changed { at }),
        None => Ok(()),
    }
}

/// Sends a datagram of `len` bytes to a UDP echo behind `port` and waits for it to come back;
/// several times if need be, because datagrams may be lost.
///
/// # Errors
/// If none comes back, or a changed one.
pub fn echo_udp(port: u16, len: usize) -> Result<(), Error> {
    let fail = |what| move |source| Error::Socket { what, source };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fail("bind"))?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).map_err(fail("connect"))?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).map_err(fail("time-out"))?;
    let mut sent = vec![0; len];
    userland::bytes::fill(len as u64, &mut sent);
    let mut got = vec![0; 65536];
    for _ in 0..5 {
        socket.send(&sent).map_err(fail("send"))?;
        let Ok(n) = socket.recv(&mut got) else { continue };
        return match first_difference(&sent, &got[..n]) {
            Some(at) => Err(Error::Changed { at }),
            None => Ok(()),
        };
    }
    Err(Error::Lost(len))
}

/// Where two byte strings differ first; a missing byte differs.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).position(|(x, y)| x != y);
    common.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"ab"), Some(2));
        assert_eq!(first_difference(b"", b"x"), Some(0));
    }

    #[test]
    fn the_digest_is_of_the_served_stream() {
        let mut all = vec![0; 100_000];
        userland::bytes::fill(0, &mut all);
        assert_eq!(expected_digest(100_000), <[u8; 32]>::from(Sha256::digest(&all)));
        assert!(hex(&expected_digest(0)).starts_with("e3b0c44298fc1c14"));
    }
}
