"""The long proofs: faults of our own side, one after another, on real servers (`make chaos`)."""
