//! What the program `hostile` does to the rest of the system, by name, and what each of that is
//! owed. The program tells one a life; the test `hostile` knows from here what it has to see;
//! `docs/robustness.md` lists the same.

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Nothing: an error to the caller at most. Its session works afterwards.
    Nothing,
    /// Likewise, and a line in the log.
    Refusal,
    /// Its session is ended, with a line in the log that says why.
    Session,
    /// Its process is ended, with a line in the log that says why.
    Death,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// Name.
    pub name: &'static str,
    /// What it is, in a few words.
    pub says: &'static str,
    /// What follows.
    pub owed: Owed,
    /// What the line in the log contains.
    pub line: &'static str,
}

const fn nothing(name: &'static str, says: &'static str) -> Lie {
    Lie { name, says, owed: Owed::Nothing, line: "" }
}

const fn refusal(name: &'static str, says: &'static str, line: &'static str) -> Lie {
    Lie { name, says, owed: Owed::Refusal, line }
}

const fn session(name: &'static str, says: &'static str, line: &'static str) -> Lie {
    Lie { name, says, owed: Owed::Session, line }
}

const fn death(name: &'static str, says: &'static str, line: &'static str) -> Lie {
    Lie { name, says, owed: Owed::Death, line }
}

const NO_REQUEST: &str = "[sockd] hostile sent a message that is no request: its session is ended";
const RING: &str = "[netd] hostile misbehaves: its index of an id ring says";
const TAIL: &str = "[netd] hostile misbehaves: tx_tail of socket";
const HEAD: &str = "[netd] hostile misbehaves: rx_head of socket";
const ID: &str = "[netd] hostile misbehaves: it submitted socket";
const DATAGRAM: &str = "sends a datagram of impossible length";

/// All of them, in the order in which they are told.
pub const LIES: &[Lie] = &[
    // Messages.
    session("message-empty", "a call without a payload", NO_REQUEST),
    session("message-junk", "a payload of 1024 times 0xff", NO_REQUEST),
    session("message-cut", "half a request", NO_REQUEST),
    session("message-trailing", "a request and a byte more", NO_REQUEST),
    session("message-unknown", "a request that does not exist", NO_REQUEST),
    session(
        "message-interface",
        "a request for init, sent to sockd",
        "[sockd] hostile sent a message for interface 3",
    ),
    session(
        "message-version",
        "version 9 of the interface",
        "[sockd] hostile sent a message of version 9",
    ),
    session("message-unanswered", "junk that is sent and not called", NO_REQUEST),
    nothing("message-too-long", "a message longer than a message can be"),
    nothing("message-kernel-bits", "a call that says it is a signal or a fault"),
    nothing("message-capabilities", "capabilities in a message that nobody asked for"),
    nothing("send-flood", "requests that are sent and not called, so that nobody takes the answer"),
    nothing("rings-huge", "a socket with rings of 4 GiB"),
    nothing("kind-listener", "a socket that is made a listener"),
    nothing("id-huge", "socket 4294967295"),
    nothing("id-of-nobody", "every socket that it does not have"),
    nothing("id-stale", "a socket that it has closed"),
    nothing("call-repeated", "a call that says it is made again"),
    nothing("shutdown-how", "a direction that does not exist"),
    nothing("bind-twice", "a port that is taken"),
    nothing("address-nonsense", "addresses that are none, or of no use"),
    refusal(
        "bind-forbidden",
        "a port that its manifest entry does not list",
        "[sockd] hostile may not bind port 80: `sockets.bind` of program \"hostile\" in the manifest does not list it",
    ),
    refusal(
        "ping-forbidden",
        "echo requests without `ping`",
        "[sockd] hostile may not send echo requests: `sockets.ping` of program \"hostile\" in the manifest is not set",
    ),
    refusal(
        "broadcast-forbidden",
        "broadcasts without `broadcast`, by call and by datagram",
        "[sockd] hostile may not send to broadcast addresses: `sockets.broadcast` of program \"hostile\"",
    ),
    nothing("netd-close", "netd's `Close`, which is sockd's, for everybody's sockets"),
    nothing("netd-end-session", "netd's `EndSession`, which is sockd's, for everybody's sessions"),
    refusal(
        "netd-junk",
        "junk to netd",
        "[netd] the caller with badge 2 sent a message that is no request",
    ),
    refusal(
        "init-kill",
        "init's `Kill` and `Crash`, without `init`",
        "[init] hostile may not ask that of init: `init` of program \"hostile\" in the manifest is not set",
    ),
    refusal(
        "init-power-off",
        "init's `PowerOff`, without `init`",
        "[init] hostile may not ask that of init",
    ),
    refusal("init-junk", "junk to init", "[init] hostile sent a message that is no request"),
    nothing("init-list-far", "a list from number 4294967295 on"),
    // Rings of ids.
    session("submit-jump", "the submit ring's index jumps by 2^40", RING),
    session("submit-back", "the submit ring's index goes back", RING),
    session("submit-wrap", "the submit ring's index is 2^64 - 1", RING),
    session("submit-overfull", "one more submission than the ring holds", RING),
    session("ready-jump", "the ready ring's index jumps by 2^40", RING),
    session("ready-back", "the ready ring's index goes back", RING),
    session("ready-wrap", "the ready ring's index is 2^64 - 1", RING),
    nothing("submit-header", "magic, version, capacity, entry size and epoch are overwritten"),
    nothing("wake-words", "it asks to be woken at impossible places"),
    session("id-beyond", "it submits the first id beyond its session", ID),
    session("id-enormous", "it submits id 2^64 - 1", ID),
    nothing("id-repeated", "it submits the same id a thousand times"),
    nothing("id-all", "it submits every id, those it does not have as well"),
    // Words of sockets, datagrams.
    session("udp-tail-beyond", "tx_tail lies beyond the send ring", TAIL),
    session("udp-tail-back", "tx_tail goes back", TAIL),
    session("udp-tail-crooked", "tx_tail lies within a datagram's padding", TAIL),
    session("udp-head-beyond", "rx_head lies beyond what has arrived", HEAD),
    session("udp-head-back", "rx_head goes back", HEAD),
    session("tcp-tail-beyond", "the same with a stream", TAIL),
    session("tcp-tail-back", "likewise", TAIL),
    session("tcp-head-beyond", "likewise", HEAD),
    session("tcp-head-back", "likewise", HEAD),
    session("tcp-shutdown-beyond", "the same, found when the stream is shut down", TAIL),
    session("tcp-close-beyond", "the same, found when the stream is closed", TAIL),
    nothing("tcp-rewritten", "what is on its way is overwritten again and again"),
    nothing("words-of-others", "the words of sockets that it does not have"),
    session("datagram-long", "a datagram of 65535 bytes in a ring of 4096", DATAGRAM),
    session("datagram-cut", "half a datagram's header", DATAGRAM),
    nothing("datagram-nowhere", "datagrams to nobody, to groups, to port 0, by IPv6"),
    nothing("datagram-padding", "garbage where a datagram's header has zeroes"),
    // Hogs.
    nothing("hog-sockets", "all sockets that it can get"),
    nothing("hog-ports", "all ports that it can get"),
    nothing("hog-memory", "all ring memory that it can get"),
    refusal(
        "hog-backlog",
        "more connections than its listener's backlog takes",
        "[netd] the backlog of",
    ),
    nothing("hog-sessions", "its session opened a hundred times"),
    nothing("never-reading", "a stream and datagrams that it never reads"),
    nothing("flood-calls", "calls to sockd as fast as it can"),
    nothing("flood-signals", "signals to netd as fast as it can"),
    nothing("flood-submissions", "submissions as fast as it can"),
    nothing("flood-datagrams", "datagrams to itself as fast as it can"),
    refusal("flood-log", "log lines as fast as it can", "bytes of its log lost"),
    nothing("flood-timer", "timers that fire at once, as fast as it can"),
    nothing("spin", "nothing at all, as fast as it can"),
    // Deaths.
    death(
        "die-sending",
        "an undefined instruction, in the middle of sending",
        "restarted hostile: undefined instruction",
    ),
    death("die-listening", "a panic, with a full backlog", "restarted hostile: panic"),
    death(
        "die-submitting",
        "a wild pointer, between submission and signal",
        "restarted hostile: page fault at 0xdeadbeef (write)",
    ),
    death("die-of-stack", "a stack that grows without end", "stack overflow"),
    // What the kernel must refuse.
    nothing("slots-of-nobody", "every kernel call on every slot that it does not have"),
    nothing("slots-misused", "kernel calls on capabilities that are for something else"),
    death(
        "syscall-unknown",
        "a system call that does not exist",
        "restarted hostile: unknown system call 0x3e7",
    ),
    death("read-nothing", "it reads address 8", "restarted hostile: page fault at 0x8 (read)"),
    death(
        "read-kernel",
        "it reads the kernel's memory",
        "restarted hostile: page fault at 0xffffffff80000000 (read)",
    ),
    death(
        "write-kernel",
        "it writes the kernel's memory",
        "restarted hostile: page fault at 0xffffffff80000000 (write)",
    ),
    death(
        "read-device",
        "it reads where the NIC's registers lie",
        "restarted hostile: page fault at 0xfebc0000 (read)",
    ),
    death(
        "read-elsewhere",
        "it reads where another process has a region",
        "restarted hostile: page fault at 0x10ff00000000 (read)",
    ),
    death("write-records", "it writes netd's records of its own sockets", "(write), rip"),
    death("write-received", "it writes what netd has received for it", "(write), rip"),
    death(
        "write-start",
        "it writes its start information",
        "restarted hostile: page fault at 0x720000000000 (write)",
    ),
    death("write-code", "it writes its own code", "(write), rip"),
    death("execute-data", "it executes what it may write", "(fetch)"),
    death("execute-stack", "it executes its stack", "(fetch)"),
    death("port", "it reads the serial port's registers", "restarted hostile: protection fault"),
    death("interrupts-off", "it turns interrupts off", "restarted hostile: protection fault"),
    death("halt", "it halts the processor", "restarted hostile: protection fault"),
    death(
        "control-register",
        "it loads a page table of its own",
        "restarted hostile: protection fault",
    ),
];

/// Names fit, and nothing is left unsaid.
const _: () = {
    let mut i = 0;
    while i < LIES.len() {
        assert!(LIES[i].name.len() <= 24 && !LIES[i].says.is_empty());
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;
    use std::format;

    #[test]
    fn names_differ_and_the_documentation_lists_all() {
        let names: BTreeSet<&str> = LIES.iter().map(|l| l.name).collect();
        assert_eq!(names.len(), LIES.len());
        let docs = include_str!("../../docs/robustness.md");
        for lie in LIES {
            let line = format!("| `{}` | {} |", lie.name, lie.says);
            assert!(docs.contains(&line), "docs/robustness.md lacks: {line}");
        }
    }
}
