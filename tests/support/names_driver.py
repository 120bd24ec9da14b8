"""Keeps names of a mesh in a process of its own, so that it can be killed.

    python names_driver.py IF SITE

SITE is JSON: {"domain", "addresses": [...], "ranges": [...], "names": {NAME: [ADDRESS..]}}. Its
status is printed, a line of JSON; then a line on standard input is waited for. `status` prints it
again, `stop` and the end of the input end it, `leave` goes without a word.
"""

import json
import os
import signal
import sys

from wgpy.ip import parse_prefix
from wgpy.mesh.names import Names


def main(interface: str, text: str) -> None:
    site = json.loads(text)
    names = Names(interface, site["domain"], site["addresses"], map(parse_prefix, site["ranges"]))
    names.update(site["names"])
    print(json.dumps(names.status()), flush=True)
    for line in sys.stdin:
        match line.strip():
            case "status":
                print(json.dumps(names.status()), flush=True)
            case "again":
                names.update(site["names"])
                print(json.dumps(names.status()), flush=True)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                break
    names.stop()
    print(json.dumps(names.status()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
