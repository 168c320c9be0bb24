//! A request head: from bytes to what is wanted, with the status of every mistake.

use super::response::Status;

/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// Longest request body that is read over and thrown away so that the connection can go on.
const MAX_BODY: u64 = 64 << 10;
/// Most bytes that `/bytes/N/sha256` digests: 1 TiB.
pub const MAX_DIGEST: u64 = 1 << 40;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/`.
    Home,
    /// `/bytes/N`.
    Bytes(u64),
    /// `/bytes/N/sha256`.
    Digest(u64),
}

/// A request whose head is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is wanted, or the status that refuses it.
    pub target: Result<Target, Status>,
    /// HEAD: no body.
    pub head_only: bool,
    /// The connection goes on after the response.
    pub keep_alive: bool,
    /// Bytes of the head.
    pub len: usize,
    /// Bytes of request body that follow and are to be skipped.
    pub body: u64,
}

/// Parses a head. `None`: more bytes are needed.
///
/// # Errors
/// The status to answer before closing.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, Status> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Status::HeadersTooLarge),
        Err(_) => return Err(Status::BadRequest),
    };
    let (Some(method), Some(path), Some(minor)) = (head.method, head.path, head.version) else {
        return Err(Status::BadRequest);
    };
    // RFC 9110 (7.2): exactly one Host in HTTP/1.1.
    let hosts = named(&head, "host").count();
    if minor == 1 && hosts != 1 {
        return Err(Status::BadRequest);
    }
    // RFC 9112 (6.1): a coding that is not understood makes the body's length unknown.
    if named(&head, "transfer-encoding").next().is_some() {
        return Err(Status::NotImplemented);
    }
    let mut lengths = named(&head, "content-length");
    let body = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some(v), None) => number(v).ok_or(Status::BadRequest)?,
        _ => return Err(Status::BadRequest),
    };
    if body > MAX_BODY {
        return Err(Status::ContentTooLarge);
    }
    let says = |token: &str| {
        named(&head, "connection")
            .filter_map(|v| core::str::from_utf8(v).ok())
            .flat_map(|v| v.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    let keep_alive = !says("close") && (minor == 1 || says("keep-alive"));
    let target = match method {
        "GET" | "HEAD" => target(path),
        _ => Err(Status::MethodNotAllowed),
    };
    Ok(Some(Request { target, head_only: method == "HEAD", keep_alive, len, body }))
}

fn named<'a>(
    head: &'a httparse::Request<'_, 'a>,
    name: &'static str,
) -> impl Iterator<Item = &'a [u8]> {
    head.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if plain { core::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

fn target(path: &str) -> Result<Target, Status> {
    // RFC 9112 (3.2.2): a server accepts the absolute form, too.
    let path = match path.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.find('/').map_or("/", |i| &rest[i..])
        }
        _ => path,
    };
    let path = path.split('?').next().unwrap_or(path);
    if path == "/" {
        return Ok(Target::Home);
    }
    let rest = path.strip_prefix("/bytes/").ok_or(Status::NotFound)?;
    let (n, what) = rest.split_once('/').unwrap_or((rest, ""));
    let counted = || number(n.as_bytes()).ok_or(Status::BadCount);
    match (what, rest.contains('/')) {
        ("", false) => counted().map(Target::Bytes),
        ("sha256", _) => match counted()? {
            n if n <= MAX_DIGEST => Ok(Target::Digest(n)),
            _ => Err(Status::BadCount),
        },
        _ => Err(Status::NotFound),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    fn get(path: &str) -> Result<Target, Status> {
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let r = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!((r.len, r.body, r.head_only, r.keep_alive), (text.len(), 0, false, true));
        r.target
    }

    #[test]
    fn paths_name_targets() {
        for (path, want) in [
            ("/", Ok(Target::Home)),
            ("/?x=1", Ok(Target::Home)),
            ("http://host/bytes/7", Ok(Target::Bytes(7))),
            ("HTTP://host", Ok(Target::Home)),
            ("/bytes/0", Ok(Target::Bytes(0))),
            ("/bytes/18446744073709551615", Ok(Target::Bytes(u64::MAX))),
            ("/bytes/18446744073709551616", Err(Status::BadCount)),
            ("/bytes/-1", Err(Status::BadCount)),
            ("/bytes/+1", Err(Status::BadCount)),
            ("/bytes/", Err(Status::BadCount)),
            ("/bytes/x", Err(Status::BadCount)),
            ("/bytes/5/", Err(Status::NotFound)),
            ("/bytes/5/sha256", Ok(Target::Digest(5))),
            ("/bytes/5/sha256/", Err(Status::NotFound)),
            ("/bytes/1099511627776/sha256", Ok(Target::Digest(1 << 40))),
            ("/bytes/1099511627777/sha256", Err(Status::BadCount)),
            ("/bytes", Err(Status::NotFound)),
            ("/favicon.ico", Err(Status::NotFound)),
        ] {
            assert_eq!(get(path), want, "{path}");
        }
    }

    #[test]
    fn heads_of_every_kind() {
        let p = |text: &str| parse(text.as_bytes());
        assert_eq!(p("GET / HT"), Ok(None));
        assert_eq!(p("GET / HTTP/1.1\r\nHost: x\r\n"), Ok(None));
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "\0\0\0\0",
            "GET  / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(p(bad), Err(Status::BadRequest), "{bad:?}");
        }
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(p(chunked), Err(Status::NotImplemented));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        assert_eq!(p(&many), Err(Status::HeadersTooLarge));

        let post = p("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n").unwrap().unwrap();
        assert_eq!((post.target, post.body), (Err(Status::MethodNotAllowed), 12));
        let big = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n";
        assert_eq!(p(big), Err(Status::ContentTooLarge));

        let alive = |t: &str| p(t).unwrap().unwrap().keep_alive;
        assert!(!alive("GET / HTTP/1.0\r\n\r\n"));
        assert!(alive("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!alive("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"));
        assert!(p("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap().head_only);
    }
}
