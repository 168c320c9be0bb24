//! Counters of netd, named as SNMP's are (RFC 1213, RFC 4113, RFC 4022, Linux's `nstat`) where it has one.

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// Counters of netd since it started. Whatever is dropped is counted under a name that
        /// begins with `Drop.` and says why.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counters {
            /// The names, in the order of [`Self::values`].
            pub const NAMES: &[&str] = &[$($name),*];

            /// All values.
            pub fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field),*]
            }
        }
    };
}

counters! {
    /// Frames from the driver.
    rx_frames = "If.InFrames",
    /// Frames to the driver.
    tx_frames = "If.OutFrames",
    /// Frames for a link that was down.
    tx_no_link = "Drop.OutNoLink",
    /// Frames of ours that the driver found malformed.
    tx_refused = "Drop.OutRefused",
    /// Shorter than its headers say.
    rx_truncated = "Drop.InTruncated",
    /// A length that cannot be.
    rx_length = "Drop.InLength",
    /// A protocol, version or operation that nobody here speaks.
    rx_unsupported = "Drop.InUnsupported",
    /// A wrong checksum.
    rx_checksum = "Drop.InChecksum",
    /// A fragment that cannot be used.
    rx_fragments = "Drop.InFragment",
    /// An address that cannot be there.
    rx_address = "Drop.InAddress",
    /// An option or extension header that cannot be, or asks to be refused.
    rx_options = "Drop.InOption",
    /// For nobody here.
    rx_unclaimed = "Drop.InUnclaimed",
    /// No room in a receive ring, or in the loop queue.
    rx_no_room = "Drop.InNoRoom",
    /// Packets of ours that no route, or no room in the loop, was found for.
    tx_no_route = "Ip.OutNoRoutes",
    /// Packets of no socket whose neighbour did not answer, or that found no room to wait.
    tx_unresolved = "Drop.OutUnresolved",
    /// ARP packets that came back to us, or that claim our address.
    arp_ignored = "Drop.InArp",
    /// Fragments taken for reassembly.
    reassembly_in = "Ip.ReasmReqds",
    /// Packets put together.
    reassembled = "Ip.ReasmOKs",
    /// Packets given up because a fragment did not come in time.
    reassembly_timeouts = "Ip.ReasmTimeout",
    /// Packets given up because fragments contradicted one another.
    reassembly_fails = "Ip.ReasmFails",
    /// Packets given up because fragments overlapped.
    reassembly_overlaps = "IpExt.ReasmOverlaps",
    /// Fragments that were there already.
    reassembly_duplicates = "Drop.InFragmentDuplicate",
    /// Packets sent in fragments.
    fragmented = "Ip.FragOKs",
    /// Fragments sent.
    fragments_sent = "Ip.FragCreates",
    /// ICMP messages taken.
    icmp_in = "Icmp.InMsgs",
    /// ICMP messages of a type, or for a purpose, that is passed over.
    icmp_ignored = "Drop.InIcmp",
    /// ICMP messages sent.
    icmp_out = "Icmp.OutMsgs",
    /// ICMP errors not sent because one host had enough of them.
    icmp_limited_host = "Icmp.OutRateLimitHost",
    /// ICMP errors not sent because there were enough in all.
    icmp_limited = "Icmp.OutRateLimitGlobal",
    /// Datagrams for a port that nobody has.
    udp_no_ports = "Drop.InUdpNoPort",
    /// Datagrams delivered.
    udp_in = "Udp.InDatagrams",
    /// Datagrams sent.
    udp_out = "Udp.OutDatagrams",
    /// Neighbour discovery that changes nothing: of neighbours that nobody speaks to, of routers
    /// that are not heeded, beyond what there is room for.
    nd_ignored = "Icmp6.NeighborIgnored",
    /// Others that speak of our addresses as theirs.
    nd_conflicts = "Icmp6.AddressConflicts",
    /// Frames that a tap's ring had no room for.
    tap_no_room = "Drop.TapNoRoom",
    /// TCP segments sent again.
    retransmits = "Tcp.RetransSegs",
    /// Resets sent.
    resets_sent = "Tcp.OutRsts",
    /// Challenge ACKs sent (RFC 5961).
    challenge_acks = "Tcp.ChallengeAcks",
    /// ACKs of handshakes whose listeners wait for data (TCP_DEFER_ACCEPT).
    tcp_deferred = "TcpExt.TCPDeferAcceptDrop",
    /// TCP segments with neither ACK nor SYN nor RST.
    tcp_no_ack = "Drop.InTcpNoAck",
    /// TCP segments with a signature (RFC 2385, RFC 5925), for which there is no key.
    tcp_signed = "Drop.InTcpSigned",
    /// TCP segments outside the window, or too old by their timestamp (RFC 7323).
    tcp_unacceptable = "Drop.InTcpUnacceptable",
    /// SYNs, RSTs and ACKs that RFC 5961 wants questioned.
    tcp_challenged = "Drop.InTcpChallenged",
    /// TCP segments behind the peer's FIN.
    tcp_after_fin = "Drop.InTcpAfterFin",
    /// Connections that left TIME-WAIT early, since others came.
    time_wait_overflow = "Tcp.TimeWaitOverflow",
    /// Times that streams began to hold more than they should, of one program or of all.
    memory_pressures = "TcpExt.TCPMemoryPressures",
    /// Times that data which had arrived out of order was dropped to make room.
    out_of_order_pruned = "TcpExt.OfoPruned",
    /// Segments out of order that there was no memory for.
    out_of_order_dropped = "Drop.InTcpOutOfOrder",
    /// Times that a range of what is in flight or out of order found no memory: it was joined to another, or dropped.
    ranges_refused = "Stack.RangesRefused",
    /// Connections reset at close, since too many went on without their programs.
    orphans_reset = "TcpExt.TCPAbortOnMemory",
    /// Connections whose SYN took data along that its SYN-ACK acknowledged (RFC 7413).
    fast_open_active = "TcpExt.TCPFastOpenActive",
    /// Those whose data had to go again.
    fast_open_active_failed = "TcpExt.TCPFastOpenActiveFail",
    /// Connections made of a SYN with a good cookie.
    fast_open_passive = "TcpExt.TCPFastOpenPassive",
    /// SYNs with a cookie that was not good, or with no place for a connection.
    fast_open_passive_failed = "TcpExt.TCPFastOpenPassiveFail",
    /// SYNs that found too many such handshakes under way.
    fast_open_overflow = "TcpExt.TCPFastOpenListenOverflow",
    /// SYNs that asked for a cookie.
    fast_open_asked = "TcpExt.TCPFastOpenCookieReqd",
    /// Paths that seem to swallow what Fast Open sends.
    fast_open_black_holes = "TcpExt.TCPFastOpenBlackhole",
    /// SYN cookies sent, since too many handshakes were under way (RFC 4987).
    cookies_sent = "Tcp.SyncookiesSent",
    /// ACKs of SYN cookies.
    cookies_taken = "Tcp.SyncookiesRecv",
    /// ACKs that were of no cookie, or of an old one.
    cookies_failed = "Tcp.SyncookiesFailed",
    /// Handshakes that their peers did not complete.
    requests_expired = "Tcp.ReqsExpired",
    /// SYNs and last ACKs of handshakes for which the backlog had no room.
    syns_dropped = "Drop.Syn",
    /// Sessions ended because of nonsense in their memory.
    peer_errors = "Stack.SessionFaults",
    /// Calls and datagrams refused for lack of a permission.
    not_permitted = "Stack.NotPermitted",
    /// Messages that were no requests.
    nonsense = "Stack.Nonsense",
    /// Times that the driver said something impossible.
    driver_errors = "Stack.DriverFaults",
    /// Connections rebuilt from records at the last start.
    recovered = "Stack.Recovered",
}

impl Counters {
    /// All that was dropped on receive.
    pub fn dropped(&self) -> u64 {
        let values = self.values();
        let named = Self::NAMES.iter().zip(values);
        named.filter(|(name, _)| name.starts_with("Drop.In")).map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_order() {
        for (i, name) in Counters::NAMES.iter().enumerate() {
            assert!(!Counters::NAMES[..i].contains(name), "{name}");
        }
        let c = Counters { rx_checksum: 3, tx_frames: 2, ..Default::default() };
        assert_eq!((c.values()[1], c.dropped()), (2, 3));
    }
}
