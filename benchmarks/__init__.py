"""What vouchgate costs and how fast it is, measured beside the peer or the limit in the same run; no test times anything."""
