//! What was dropped, by reason, and how often each thing with a bound met it.

macro_rules! counters {
    ($($variant:ident $name:literal $doc:literal;)*) => {
        /// One counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $(#[doc = $doc] $variant),* }

        /// Their names, which the portable data path uses as well.
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

counters! {
    NotIp "not_ip" "A TUN read that is neither IPv4 nor IPv6.";
    NoPeer "no_peer" "No peer's allowed IPs have the destination.";
    NoEndpoint "no_endpoint" "The peer's address is not known.";
    BadOffload "bad_offload" "A vnet header that does not fit its packet.";
    SendError "send_error" "A send that the socket refused.";
    StagedOverflow "staged_overflow" "The oldest packet that waited for a key made room.";
    StagedDropped "staged_dropped" "Packets that waited in vain for a key.";
    UnreachableLimited "unreachable_limited" "ICMP errors that were not sent: too many.";
    TooShort "too_short" "A datagram with no room for a type.";
    UnknownIndex "unknown_index" "No key pair or handshake has the index.";
    ExpiredKey "expired_key" "The key pair is too old, or the counter too great.";
    BadTag "bad_tag" "Authentication failed.";
    Replayed "replayed" "The counter was seen before, or is too old to tell.";
    BadInner "bad_inner" "No IP packet inside, or a length that lies.";
    WrongSource "wrong_source" "The source belongs to another peer, or to none.";
    ControlQueueFull "control_queue_full" "Python lags behind.";
    UnknownType "unknown_type" "No rule lets the type pass.";
    WrongLength "wrong_length" "A control datagram of another length than its type has.";
    BadMac1 "bad_mac1" "The sender does not know our public key.";
    UnknownPath "unknown_path" "A type with the identifier of a path, and of none of ours.";
    UnknownStun "unknown_stun" "STUN from where none may come.";
    StunQueueFull "stun_queue_full" "More STUN than waits for Python.";
    UnknownRelay "unknown_relay" "ChannelData from where no relay's server is.";
    UnknownChannel "unknown_channel" "ChannelData on a channel that is not bound.";
    BadChannelData "bad_channel_data" "ChannelData that says it is longer than it is.";
    CarrierFull "carrier_full" "Datagrams that a relay's carrier had no room for.";
    GateFull "gate_full" "More than is held for one peer that is being decided on.";
    GateMemory "gate_memory" "More than is held for all of them.";
    GateDropped "gate_dropped" "Packets that were held for a decision in vain.";
    GateExpired "gate_expired" "Key pairs on which nobody decided in time.";
    HoldFull "hold_full" "Peers that moved, and for which no more packets could wait.";
    HoldDropped "hold_dropped" "Packets that waited in vain after a peer moved.";
    ShedQueue "shed_queue" "The queue of a type that is dear to answer has no room.";
    ShedRate "shed_rate" "More of such a type with a good mac2 than may pass.";
    ShedUnproven "shed_unproven" "More of such a type without one than may pass.";
    ShedSource "shed_source" "More of such a type from one source than may pass.";
    TunError "tun_error" "The TUN refused a packet.";
    ReceiveError "receive_error" "An ICMP error of an earlier send, mostly.";
    Truncated "truncated" "A datagram that did not fit.";
    StaleSource "stale_source" "A sticky source that had left the machine.";
    SegmentFallback "segment_fallback" "Trains that went datagram by datagram after an error.";
    MergeFallback "merge_fallback" "Large packets that the TUN took only in pieces.";
}

/// All of them.
pub struct Counters([u64; NAMES.len()]);

impl Default for Counters {
    fn default() -> Self {
        Counters([0; NAMES.len()])
    }
}

impl Counters {
    /// One more.
    #[inline]
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Some more.
    #[inline]
    pub fn add(&mut self, counter: Counter, more: u64) {
        self.0[counter as usize] += more;
    }

    /// Those that are not zero, by name.
    pub fn present(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().copied().zip(self.0).filter(|&(_, value)| value > 0)
    }
}
