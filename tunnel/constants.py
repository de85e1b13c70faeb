"""Protocol numbers that more than one module uses, under their specification's names.

Times are in seconds, sizes in bytes. Numbers with one user stand beside that user.
"""

# WireGuard white paper §6.1
REKEY_AFTER_TIME = 120.0
REJECT_AFTER_TIME = 180.0
REKEY_ATTEMPT_TIME = 90.0

KEEPALIVE_INTERVAL = 15.0
"""Between two datagrams that keep a mapping alive, until its lifetime is known: 74 % of carrier
NATs forget within 60 s, one used for things after 12 s (RFC 8445 §11 asks for 15 or more)."""

TUNNEL_MTU = 1280
"""Default of the TUN interface until path MTUs are measured: with 32 bytes of frame, 8 of relay
envelope and 48 of IPv6 and UDP it fits every path that RFC 8200 §5 and common LTE allow."""

MAX_UNANSWERED_CHECKS = 24
"""Checks sent to one endpoint that never answered, per punch and second: nobody aims us at a
victim."""
