"""The only SQL and the only message bus: one state store with its log, one bus, the same contract on every engine.

Rules
1. `contract` says what a store and a bus promise; `opening.open_memory`, `open_sqlite` and `open_postgres` return one. Everything is
   keyed by trust domain.
2. A transaction is data (`Change` values). One commit holds state, epoch, offsets, entries and tiles, durable or not at all, exactly once.
3. There is one writer. `ledger` decides (pure), `group` batches, an engine writes; so every engine obeys the same rules.
4. `backup` copies a running store and refuses a restore that would forget revocations.
"""
