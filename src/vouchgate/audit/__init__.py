"""What happened: a transparency log (C2SP tlog-tiles), its checkpoints and proofs, and the events in it (OCSF 1.8.0).

Rules
1. Pure: hashes and signatures in, values out. Who holds a private key, where tiles lie and what time it is come from outside.
2. `tree` grows the log, `proofs` makes and checks proofs, `notes` and `checkpoints` read and write signed tree heads, `tlog_proof` is the
   portable evidence, `verify` recomputes a whole log, `ocsf` gives each act its entry, `catalog` lists the exporters.
3. Storing entries and tiles, and cosigning, are left to `storage` and to the witness process.
"""
