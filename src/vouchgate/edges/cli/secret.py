"""Ask for a secret at the terminal: nothing is shown, and what was typed is in one buffer that its taker overwrites.

The prompt and the answer go through /dev/tty, so that neither ends in a pipe or a log.
"""

from __future__ import annotations

import os
import termios

from vouchgate.vocabulary.errors import InvalidInput

MAX_TYPED = 1024
"""Bytes of what is typed."""


def ask_secret(prompt: str) -> bytearray | None:
    """What a person typed, without its line end; None where there is no terminal. Raises `InvalidInput` where it is too long."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        before = termios.tcgetattr(terminal)
        hidden = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        termios.tcsetattr(terminal, termios.TCSAFLUSH, hidden)
        try:
            os.write(terminal, prompt.encode())
            return _line(terminal)
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
            os.write(terminal, b"\n")
    finally:
        os.close(terminal)


def _line(terminal: int) -> bytearray:
    buffer = bytearray(MAX_TYPED + 2)
    size = os.readv(terminal, [buffer])
    typed = bytearray(memoryview(buffer)[:size])
    buffer[:] = bytes(len(buffer))
    if size > MAX_TYPED + 1:
        typed[:] = bytes(len(typed))
        raise InvalidInput(f"more than {MAX_TYPED} bytes were typed", remedy="choose a shorter one")
    while typed and typed[-1] in (0x0A, 0x0D):
        typed[-1] = 0
        del typed[-1]
    return typed
