//! Linux's numbers on x86-64, as its user-space interface has them.

/// A negative result's number. Named as in `errno(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:literal),* $(,)?) => {
        #[allow(missing_docs)]
        impl Errno { $(pub const $name: Self = Self($number);)* }
    };
}

errnos! {
    ENOENT = 2, EIO = 5, EBADF = 9, EAGAIN = 11, EACCES = 13, EINVAL = 22, EPIPE = 32, EDOM = 33, ENOSYS = 38,
    ENODEV = 19, EPROTO = 71, ENOTTY = 25, EMFILE = 24, ENOTSOCK = 88, EDESTADDRREQ = 89, EMSGSIZE = 90,
    EPROTOTYPE = 91, ENOPROTOOPT = 92, EPROTONOSUPPORT = 93, ESOCKTNOSUPPORT = 94, EOPNOTSUPP = 95,
    EAFNOSUPPORT = 97, EADDRNOTAVAIL = 99, ECONNABORTED = 103, ECONNRESET = 104, EISCONN = 106,
    ENOTCONN = 107, EALREADY = 114, EINPROGRESS = 115,
}

impl From<libipc::sock::Error> for Errno {
    fn from(e: libipc::sock::Error) -> Self {
        Self(e.errno())
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $module:ident { $($name:ident = $number:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[allow(missing_docs)]
        pub mod $module { $(pub const $name: i32 = $number;)* }
    )*};
}

numbers! {
    /// Address families.
    af { UNSPEC = 0, INET = 2, INET6 = 10, MAX = 46 }
    /// Socket types and what may be added to one.
    sock { STREAM = 1, DGRAM = 2, RAW = 3, MAX = 11, NONBLOCK = 0x800, CLOEXEC = 0x80000 }
    /// Protocols, which are levels of options as well.
    ipproto { IP = 0, ICMP = 1, TCP = 6, UDP = 17, IPV6 = 41, ICMPV6 = 58, RAW = 255, MAX = 263 }
    /// Options of raw sockets of ICMP.
    icmp { FILTER = 1 }
    /// Options of every socket; the level is 1.
    so {
        SOCKET = 1, DEBUG = 1, REUSEADDR = 2, TYPE = 3, ERROR = 4, DONTROUTE = 5, BROADCAST = 6, SNDBUF = 7,
        RCVBUF = 8, KEEPALIVE = 9, OOBINLINE = 10, NO_CHECK = 11, PRIORITY = 12, LINGER = 13,
        REUSEPORT = 15, RCVLOWAT = 18, SNDLOWAT = 19, RCVTIMEO = 20, SNDTIMEO = 21, BINDTODEVICE = 25, BINDTOIFINDEX = 62, ACCEPTCONN = 30,
        SNDBUFFORCE = 32, RCVBUFFORCE = 33, MARK = 36, PROTOCOL = 38, DOMAIN = 39,
        MAX_PACING_RATE = 47, RXQ_OVFL = 40, RCVTIMEO_NEW = 66, SNDTIMEO_NEW = 67,
    }
    /// Options of TCP.
    tcp {
        NODELAY = 1, MAXSEG = 2, CORK = 3, KEEPIDLE = 4, KEEPINTVL = 5, KEEPCNT = 6, SYNCNT = 7,
        LINGER2 = 8, DEFER_ACCEPT = 9, WINDOW_CLAMP = 10, INFO = 11, QUICKACK = 12, CONGESTION = 13,
        USER_TIMEOUT = 18, FASTOPEN = 23, NOTSENT_LOWAT = 25, FASTOPEN_CONNECT = 30,
        FASTOPEN_NO_COOKIE = 34, INQ = 36,
    }
    /// Options of IPv4.
    ip {
        TOS = 1, TTL = 2, HDRINCL = 3, PKTINFO = 8, MTU_DISCOVER = 10, RECVERR = 11, RECVTTL = 12,
        RECVTOS = 13, MTU = 14, MULTICAST_IF = 32, MULTICAST_TTL = 33, MULTICAST_LOOP = 34,
        ADD_MEMBERSHIP = 35, DROP_MEMBERSHIP = 36, UNBLOCK_SOURCE = 37, BLOCK_SOURCE = 38,
        ADD_SOURCE_MEMBERSHIP = 39, DROP_SOURCE_MEMBERSHIP = 40, MCAST_JOIN_GROUP = 42, MCAST_BLOCK_SOURCE = 43,
        MCAST_UNBLOCK_SOURCE = 44, MCAST_LEAVE_GROUP = 45, MCAST_JOIN_SOURCE_GROUP = 46, MCAST_LEAVE_SOURCE_GROUP = 47,
        MULTICAST_ALL = 49, RECVORIGDSTADDR = 20, FREEBIND = 15, TRANSPARENT = 19, MINTTL = 21,
        BIND_ADDRESS_NO_PORT = 24, UNICAST_IF = 50,
    }
    /// Options of IPv6.
    ipv6 {
        UNICAST_HOPS = 16, MULTICAST_IF = 17, MULTICAST_HOPS = 18, MULTICAST_LOOP = 19,
        ADD_MEMBERSHIP = 20, DROP_MEMBERSHIP = 21, MTU_DISCOVER = 23, MTU = 24, RECVERR = 25, V6ONLY = 26,
        RECVPKTINFO = 49, PKTINFO = 50, RECVHOPLIMIT = 51, HOPLIMIT = 52, DONTFRAG = 62,
        RECVTCLASS = 66, TCLASS = 67, UNICAST_IF = 76,
    }
    /// Options of UDP.
    udp { CORK = 1 }
    /// Flags of sending and receiving, and of what was received.
    msg {
        OOB = 1, PEEK = 2, CTRUNC = 8, PROBE = 0x10, TRUNC = 0x20, DONTWAIT = 0x40, EOR = 0x80, WAITALL = 0x100,
        ERRQUEUE = 0x2000, NOSIGNAL = 0x4000, MORE = 0x8000, FASTOPEN = 0x2000_0000,
    }
    /// Readiness.
    poll {
        IN = 1, PRI = 2, OUT = 4, ERR = 8, HUP = 0x10, NVAL = 0x20, RDNORM = 0x40, RDBAND = 0x80,
        WRNORM = 0x100, WRBAND = 0x200, RDHUP = 0x2000,
    }
    /// Commands of `fcntl`, and flags of a file.
    fcntl {
        GETFD = 1, SETFD = 2, GETFL = 3, SETFL = 4, CLOEXEC = 1, RDWR = 2, APPEND = 0x400, NONBLOCK = 0x800,
        ASYNC = 0x2000,
    }
    /// Requests of `ioctl`.
    ioctl {
        INQ = 0x541B, OUTQ = 0x5411, OUTQNSD = 0x894B, ATMARK = 0x8905, FIONBIO = 0x5421, GSTAMP = 0x8906,
        GSTAMPNS = 0x8907,
    }
}
