"""Passes over the batches of numbers that long lists are written in, without looking at each: `(` numbers `e`.

The C pickler writes a list in batches of 1,000; a run of equal opcodes with operands of equal length has its codes at equal distances, so that
one strided slice tells how long it is. A batch may be cut by a frame. What is no such batch is left to the opcodes, untouched.
"""

from __future__ import annotations

from vouchgate.scanning.pickles.state import State
from vouchgate.scanning.pickles.values import List, Numbers

FIRST_CHUNK, MAX_CHUNK = 32, 65_536
"""Opcodes looked at in one slice, doubling while all of them are equal, so that no opcode is looked at more than twice."""
FEWEST = 8
"""Opcodes; a shorter batch is not worth it."""
_STRIDES = {ord("G"): 9, ord("J"): 5, ord("M"): 3, ord("K"): 2, ord("N"): 1, 0x88: 1, 0x89: 1}
_FRAME, _FRAME_BYTES, _APPENDS = 0x95, 9, ord("e")


def pass_over(state: State) -> None:
    """Right behind a mark: take a whole batch up to its APPENDS onto the list below, or do nothing."""
    view, here = state.view, state.here
    below = state.marks[-1]
    if here >= state.size or view[here] not in _STRIDES or not below or type(below[-1]) is not List:
        return
    frame, limit, count = state.frame, state.limit, 0
    while here < limit and state.passed <= state.most:
        code = view[here]
        stride = _STRIDES.get(code)
        if stride is None:
            break
        state.passed += 1
        run = _run(view, here, stride, code, limit)
        if not run:
            return
        here += run * stride
        count += run
        if here == limit and frame:
            frame, limit = False, state.size
            if here + _FRAME_BYTES <= limit and view[here] == _FRAME:
                length = int.from_bytes(view[here + 1 : here + _FRAME_BYTES], "little")
                here += _FRAME_BYTES
                frame, limit = True, here + length
                if not length or limit > state.size:
                    return
    if count < FEWEST or here >= limit or view[here] != _APPENDS:
        return
    below[-1].items.append(Numbers(count, state.here, here))
    state.stack = state.marks.pop()
    state.here, state.frame, state.limit = here + 1, frame, limit


def _run(view: memoryview, here: int, stride: int, code: int, limit: int) -> int:
    """How many times in a row `code` stands at this distance, each with its whole operand before `limit`."""
    total, chunk = 0, FIRST_CHUNK
    while True:
        most = min((limit - here) // stride, chunk)
        codes = bytes(view[here : here + most * stride : stride])
        run = most - len(codes.lstrip(bytes((code,))))
        total += run
        if run < chunk:
            return total
        here += run * stride
        chunk = min(chunk * 2, MAX_CHUNK)
