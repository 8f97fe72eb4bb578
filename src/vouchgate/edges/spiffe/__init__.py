"""The SPIFFE Workload API and Envoy's secret discovery, on one unix socket of this machine."""
