"""Reading the head back: the parts of a store must agree before anything is added to it."""

from __future__ import annotations

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import read_checkpoint
from vouchgate.audit.hashing import leaf_hash
from vouchgate.audit.tiles import TILE_WIDTH, checked_tile, read_bundle
from vouchgate.storage.contract import Position
from vouchgate.storage.engine import EngineReads, Head
from vouchgate.vocabulary.errors import InvalidInput, StoreDamaged

_REMEDY = "run `vouchgate audit verify` to see where, then restore the newest backup with `vouchgate restore`"


def checked_head(engine: EngineReads, read: tuple[int, int, int, int, dict[str, Position]]) -> Head:
    """The head, its tree recovered from the tiles. Raises `StoreDamaged`."""
    serial, epoch, generation, size, positions = read
    state = tree.state_at(size, lambda level, index, width: checked_tile(engine.tile(level, index), level, index, width))
    _check_right_edge(engine, state)
    return Head(serial, epoch, generation, state, positions, _check_checkpoint(engine, size))


def _check_right_edge(engine: EngineReads, state: tree.TreeState) -> None:
    start = state.size - state.size % TILE_WIDTH
    at, hashes = start, []
    for chunk in engine.chunks(start, state.size + TILE_WIDTH):
        entries = read_bundle(chunk.bundle)
        if chunk.first != at or chunk.count != len(entries):
            raise StoreDamaged(f"the log's entries from {at} on are not whole", remedy=_REMEDY)
        hashes += [leaf_hash(entry) for entry in entries]
        at += chunk.count
    if at != state.size or b"".join(hashes) != (state.edge[0] if state.edge else b""):
        raise StoreDamaged(f"the log says it has {state.size} entries, but the last of them do not agree with it", remedy=_REMEDY)


def _check_checkpoint(engine: EngineReads, size: int) -> int:
    newest = engine.checkpoints(1)
    if not newest:
        return 0
    try:
        checkpoint = read_checkpoint(newest[0])
    except InvalidInput as error:
        raise StoreDamaged(f"the newest checkpoint cannot be read: {error.reason}", remedy=_REMEDY) from None
    if checkpoint.size > size:
        raise StoreDamaged(f"the log has {size} entries, its newest checkpoint {checkpoint.size}", remedy=_REMEDY)
    root = tree.root_at(checkpoint.size, lambda level, index, width: checked_tile(engine.tile(level, index), level, index, width))
    if root != checkpoint.root:
        raise StoreDamaged(f"the log's first {checkpoint.size} entries are not those of its checkpoint", remedy=_REMEDY)
    return checkpoint.size
