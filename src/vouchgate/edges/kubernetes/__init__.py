"""The gate of a Kubernetes cluster: an admission webhook that asks the control plane about the models that a workload names."""
