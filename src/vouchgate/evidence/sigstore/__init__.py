"""Sigstore: bundles, certificates, logs and timestamps, verified offline under a root that somebody pinned."""
