"""Lookups: records by index value, log entries by label. Existing records are entered."""

_TABLES = (
    """CREATE TABLE record_index (
  domain {int} NOT NULL REFERENCES domain (id), kind {text} NOT NULL, name {text} NOT NULL, value {text} NOT NULL, key {text} NOT NULL,
  PRIMARY KEY (domain, kind, name, value, key))""",
    """CREATE TABLE label (
  domain {int} NOT NULL REFERENCES domain (id), name {text} NOT NULL, entry {int} NOT NULL,
  PRIMARY KEY (domain, name, entry))""",
)

SQLITE = (
    *(table.format(int="INTEGER", text="TEXT") + " STRICT, WITHOUT ROWID" for table in _TABLES),
    """INSERT INTO record_index (domain, kind, name, value, key)
  SELECT record.domain, record.kind, each.key, each.value, record.key FROM record, json_each(record.indexes) AS each""",
)
POSTGRES = (
    *(table.format(int="BIGINT", text='TEXT COLLATE "C"') for table in _TABLES),
    """INSERT INTO record_index (domain, kind, name, value, key)
  SELECT record.domain, record.kind, each.key, each.value, record.key FROM record, json_each_text(record.indexes::json) AS each""",
)
