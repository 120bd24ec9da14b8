"""`wgpyd` whose quarantine lasts as long as the environment says: a minute is long for a test.

QUARANTINE_LIFE=4 python brief_wgpyd.py -f INTERFACE
"""

import functools
import os
import sys

from wgpy.device import daemon
from wgpy.device.service import Service

if __name__ == "__main__":
    life = float(os.environ["QUARANTINE_LIFE"])
    daemon.Service = functools.partial(Service, quarantine_life=life)  # type: ignore[misc]
    sys.exit(daemon.main())
