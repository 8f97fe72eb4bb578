"""Is it normal: streaming detectors that bound how often they are wrong.

A detector is one pure file in `detectors/`; `catalog.assess` runs them over a batch of events. What a finding leads to is decided
elsewhere (policy reads risk, response plans acts); a finding can only tighten.
"""
