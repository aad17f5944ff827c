"""How to ask a BigBlueButton server: URL, checksum, TLS, DNS, proxies, deadlines, size limits.

It knows no call's meaning: what parses an answer is given to it.
"""

from collector.bbb.client import BbbClient, BbbClients, Reply

__all__ = ["BbbClient", "BbbClients", "Reply"]
