"""Requests to a BigBlueButton server: URL, checksum, TLS, DNS, proxies, deadlines, size limits.

This folder does not know what a call means. The caller passes the function that parses an answer.
"""

from collector.bbb.client import BbbClient, BbbClients, Reply

__all__ = ["BbbClient", "BbbClients", "Reply"]
