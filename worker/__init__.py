"""Asks every registered database server whether an application could use it right now."""

__version__ = "0.1.0"
