"""Records, the log's entries and tiles, read positions and checkpoints.

A trust domain's row holds its head; `serial` counts transactions, fences a second writer and tells whether an interrupted one was applied.
`chunk` holds consecutive entries as an entry bundle of C2SP tlog-tiles, never across the border of a tile.
"""

_TABLES = """
CREATE TABLE domain (
  id {id} PRIMARY KEY, name {text} NOT NULL UNIQUE, serial {int} NOT NULL, epoch {int} NOT NULL, epoch_reason {text} NOT NULL,
  size {int} NOT NULL, generation {int} NOT NULL);
CREATE TABLE record (
  domain {int} NOT NULL REFERENCES domain (id), kind {text} NOT NULL, key {text} NOT NULL, value {bytes} NOT NULL, indexes {json} NOT NULL,
  PRIMARY KEY (domain, kind, key));
CREATE TABLE chunk (
  domain {int} NOT NULL REFERENCES domain (id), first {int} NOT NULL, count {int} NOT NULL, bundle {bytes} NOT NULL,
  PRIMARY KEY (domain, first));
CREATE TABLE tile (
  domain {int} NOT NULL REFERENCES domain (id), level {int} NOT NULL, number {int} NOT NULL, hashes {bytes} NOT NULL,
  PRIMARY KEY (domain, level, number));
CREATE TABLE position (
  domain {int} NOT NULL REFERENCES domain (id), source {text} NOT NULL, inode {int} NOT NULL, at {int} NOT NULL,
  PRIMARY KEY (domain, source));
CREATE TABLE checkpoint (
  domain {int} NOT NULL REFERENCES domain (id), size {int} NOT NULL, note {bytes} NOT NULL,
  PRIMARY KEY (domain, size));
"""


def _statements(end: str = "", **types: str) -> tuple[str, ...]:
    return tuple(statement + end for part in _TABLES.format(**types).split(";") if (statement := part.strip()))


SQLITE = _statements(" STRICT", id="INTEGER", int="INTEGER", text="TEXT", bytes="BLOB", json="TEXT")
POSTGRES = _statements(id="BIGSERIAL", int="BIGINT", text='TEXT COLLATE "C"', bytes="BYTEA", json="TEXT")
