"""What the worker costs, measured side by side on real servers."""
