//! Response heads and the small fixed bodies.

use core::fmt::Write;

/// Statuses that `httpd` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok,
    /// 400: not HTTP.
    BadRequest,
    /// 400: the number in the path is none, or too large.
    BadCount,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408: the head did not come in time.
    Timeout,
    /// 413.
    ContentTooLarge,
    /// 431.
    HeadersTooLarge,
    /// 501: a transfer coding.
    NotImplemented,
}

impl Status {
    /// Code and reason.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest | Self::BadCount => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::Timeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::HeadersTooLarge => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
        }
    }

    /// Text that tells the client what to do.
    pub const fn body(self) -> &'static str {
        match self {
            Self::Ok => HOME,
            Self::BadRequest => "This is not an HTTP/1.1 request that can be understood.\n",
            Self::BadCount => {
                "Say how many bytes: /bytes/N with N from 0 to 18446744073709551615, \
                 or /bytes/N/sha256 with N up to 1099511627776.\n"
            }
            Self::NotFound => "There is /, /bytes/N and /bytes/N/sha256.\n",
            Self::MethodNotAllowed => "Use GET or HEAD.\n",
            Self::Timeout => "The request did not arrive in time.\n",
            Self::ContentTooLarge => "Nothing here takes a body; one up to 64 KiB is ignored.\n",
            Self::HeadersTooLarge => "A request head may have 4096 bytes and 64 fields.\n",
            Self::NotImplemented => "Transfer codings are not supported: send Content-Length.\n",
        }
    }
}

/// The page at `/`.
pub const HOME: &str = "<!doctype html>
<html lang=en><meta charset=utf-8><title>Breakwater</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:3em auto;padding:0 1em}
code{background:#eee;padding:0 .3em}</style>
<h1>Breakwater</h1>
<p>This page comes from an operating system whose network path is made of isolated processes: the
e1000 driver, the TCP/IP stack and the socket server each have an address space of their own, above
a capability microkernel. Crash one on the console (<code>crash e1000d panic</code>) while a
download runs: it is started again, and the download goes on.</p>
<ul>
<li><a href=/bytes/1000000>/bytes/N</a>: N pseudo-random bytes of a fixed sequence
<li><a href=/bytes/1000000/sha256>/bytes/N/sha256</a>: their SHA-256 digest, to check a download
</ul>
";

/// Longest head that [`head`] writes.
pub const HEAD_MAX: usize = 256;

/// A response head.
pub fn head(
    status: Status,
    content_type: &str,
    length: u64,
    keep_alive: bool,
) -> heapless::String<HEAD_MAX> {
    let mut out = heapless::String::new();
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    // Cannot fail: the longest of all these is below HEAD_MAX, as a test checks.
    let _ = write!(
        out,
        "HTTP/1.1 {}\r\nServer: breakwater\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n{allow}Connection: {connection}\r\n\r\n",
        status.line()
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_fit_and_are_http() {
        for status in [
            Status::Ok,
            Status::BadRequest,
            Status::BadCount,
            Status::NotFound,
            Status::MethodNotAllowed,
            Status::Timeout,
            Status::ContentTooLarge,
            Status::HeadersTooLarge,
            Status::NotImplemented,
        ] {
            let text = head(status, "text/plain; charset=utf-8", u64::MAX, true);
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut parsed = httparse::Response::new(&mut headers);
            assert!(parsed.parse(text.as_bytes()).unwrap().is_complete(), "{text}");
            assert!(status.line().starts_with(char::is_numeric) && !status.body().is_empty());
            let allow = parsed.headers.iter().any(|h| h.name == "Allow");
            assert_eq!(allow, status == Status::MethodNotAllowed);
        }
    }
}
