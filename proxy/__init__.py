"""Paraf: an outbound signing reverse proxy for payment providers."""

__version__ = "0.1.0"
