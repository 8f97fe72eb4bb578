"""What now: what is to be done about a finding, as data that a flow carries out.

An action is one pure file in `actions/`; `catalog.plan` runs one. It does nothing itself: it answers with an `Effect` (what to do, how to
undo it, whom it touches, who must agree) or with `Declined`.
"""
