"""Survey: what real libraries write when their objects are serialised, so that reviewed entries rest on files and not on guesses.

Runs in environments of its own, one for each set of versions, and imports nothing of vouchgate:

    python -m survey.make OUT [label prefix...]     writes objects of the libraries that are installed, in several serialisations
    python -m survey.names OUT                      lists the names those files refer to, and how: called, constructed, or only held
"""
