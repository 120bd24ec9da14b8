"""Asks the processes of a mesh on this machine: the agent, and the coordinator for its operator.

One line of JSON goes to a socket that root alone may open, one comes back; then it is closed. A
refusal is an object with `error`, one word, and `message`, one sentence for a person.
"""

import errno
import json
import os
import socket
from typing import Any, Final

RUN_DIRECTORY: Final = "/run/wgpy"

# Seconds without a byte: an agent may have to wait for a coordinator, which waits for a database.
TIMEOUT: Final = 30.0
# A directory of 10,000 nodes has 5 MB.
MAX_ANSWER_LENGTH: Final = 16 << 20
_READ_SIZE: Final = 1 << 18
# Linux: IFNAMSIZ less its zero byte.
_MAX_NAME_LENGTH: Final = 15


class AskError(Exception):
    """Nobody answered, or it was refused; one line. `word` is the refusal's, "" for no answer."""

    def __init__(self, message: str, word: str = "") -> None:
        super().__init__(message)
        self.word = word


def agent_socket(interface: str, directory: str = RUN_DIRECTORY) -> str:
    """Where the agent of an interface listens."""
    return f"{directory}/{interface}.mesh.sock"


def operator_socket(interface: str, directory: str = RUN_DIRECTORY) -> str:
    """Where the coordinator of an interface listens to its operator."""
    return f"{directory}/{interface}.coordinator.sock"


def ask_agent(
    interface: str, question: dict[str, Any], directory: str = RUN_DIRECTORY
) -> dict[str, Any]:
    """The answer of the agent of an interface. Raises AskError."""
    _check_name(interface)
    return ask(agent_socket(interface, directory), question, f"the mesh of {interface}")


def ask_operator(
    interface: str, question: dict[str, Any], directory: str = RUN_DIRECTORY
) -> dict[str, Any]:
    """The answer of the coordinator of an interface to its operator. Raises AskError."""
    _check_name(interface)
    return ask(operator_socket(interface, directory), question, f"the coordinator of {interface}")


def interfaces(directory: str = RUN_DIRECTORY) -> list[str]:
    """The interfaces that have an agent's socket, in order of their names."""
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return []
    suffix = ".mesh.sock"
    return sorted(x.removesuffix(suffix) for x in entries if x.endswith(suffix) and x != suffix)


def ask(path: str, question: dict[str, Any], whom: str) -> dict[str, Any]:
    """One question to a socket; `whom` is for the message. Raises AskError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(json.dumps(question).encode() + b"\n")
            line = _receive(connection)
    except (FileNotFoundError, ConnectionRefusedError):
        raise AskError(f"{whom} does not run here: nobody listens at {path}") from None
    except TimeoutError:
        raise AskError(f"{whom} does not answer") from None
    except OSError as error:
        advice = "; run it as root" if error.errno in (errno.EACCES, errno.EPERM) else ""
        raise AskError(f"{whom} cannot be asked: {error.strerror or error}{advice}") from None
    return _read(line, whom)


def _receive(connection: socket.socket) -> bytes:
    answer = bytearray()
    while not answer.endswith(b"\n"):
        data = connection.recv(_READ_SIZE)
        if not data:
            break
        answer += data
        if len(answer) > MAX_ANSWER_LENGTH:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    return bytes(answer)


def _read(line: bytes, whom: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise AskError(f"{whom} answers what is no JSON") from None
    if not isinstance(answer, dict):
        raise AskError(f"{whom} answers what is no JSON object")
    if "error" in answer:
        word = str(answer["error"])
        raise AskError(str(answer.get("message") or f"{whom} refuses: {word}"), word)
    return answer


def _check_name(interface: str) -> None:
    """Names become paths."""
    if not interface or "/" in interface or "\0" in interface or interface in (".", ".."):
        raise AskError(f"{interface!r} is no name of an interface")
    if len(os.fsencode(interface)) > _MAX_NAME_LENGTH:
        raise AskError(f"{interface!r} is no name of an interface")


def only_interface(directory: str = RUN_DIRECTORY) -> str:
    """The one interface that has an agent. Raises AskError for none, and for several."""
    found = interfaces(directory)
    if len(found) == 1:
        return found[0]
    if found:
        raise AskError(f"several meshes run here: name one of {', '.join(found)}")
    raise AskError("no mesh runs here; `wgpy mesh join` and `wgpy mesh init` begin one")
