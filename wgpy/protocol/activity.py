"""What the timers need to know of a peer's traffic: kept by the data path, read by the protocol."""

from dataclasses import dataclass


@dataclass(slots=True)
class Activity:
    """What happened on one peer's road. Keepalives and handshakes are authenticated packets, but
    not data; an unanswered time is that of the first data packet since the other direction last
    carried anything authenticated. Bytes are UDP payload, handshakes included."""

    last_sent: float = 0.0
    last_received: float = 0.0
    first_data_sent_unanswered: float = 0.0
    first_data_received_unanswered: float = 0.0
    last_data_sent: float = 0.0
    last_data_received: float = 0.0
    tx_bytes: int = 0
    rx_bytes: int = 0
    staged: int = 0
