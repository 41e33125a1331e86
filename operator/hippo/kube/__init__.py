"""The Kubernetes driver: the same engine, over Studies, Trials, SearchPlans and pods."""
