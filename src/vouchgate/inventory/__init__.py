"""What is there: AI assets told from facts that a port collected.

A finder is one pure file in `finders/`; `catalog.find` runs them all. It opens nothing, follows no name, and never says that something is
safe: that is for scanning.
"""
