"""The demo: a real worker checks real servers, some broken on purpose."""
