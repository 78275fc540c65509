"""Large fleets, several replicas, a large registry: what `make bench SCALE=1` measures."""
