"""PROOF: vouches as in-toto statements in DSSE envelopes, the TrustRoot, verification, lineage.

Public functions (each module's docstring has its rules)
- `statement.sign_vouch`, `statement.read_vouch`               noun <-> envelope
- `trustroot.make_trust_root`, `sign_trust_root`, `verify_trust_root`, `verify_successor`, `fingerprint`
- `verify.verify`                                              the only place that makes a `VerifiedVouch`
- `lineage.Lineage`                                            what holds, what falls, what undo restores
- `policystatement.sign_policy`, `verify_policy`               a signed policy version
- `catalog.predicates`, `catalog.predicate`                    what may be stated, and by whom
"""
