"""The keys of a finished handshake as the data path takes them, with the times that they live."""

import math

from wgpy.datapath.contract import NewKeyPair
from wgpy.protocol.constants import (
    REJECT_AFTER_TIME,
    REKEY_AFTER_TIME,
    REKEY_AFTER_TIME_RECEIVING,
)
from wgpy.protocol.handshake import TransportKeys


def key_pair(
    keys: TransportKeys, local: int, remote: int, now: float, *, initiator: bool
) -> NewKeyPair:
    """Only the initiator renews by time, so that the two sides do not both start (6.2)."""
    return NewKeyPair(
        send_key=keys.send,
        receive_key=keys.receive,
        local_index=local,
        remote_index=remote,
        created=now,
        reject_after=now + REJECT_AFTER_TIME,
        notify_send_after=now + REKEY_AFTER_TIME if initiator else math.inf,
        notify_receive_after=now + REKEY_AFTER_TIME_RECEIVING if initiator else math.inf,
    )
