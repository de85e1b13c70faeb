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

TUNNEL_MTU = 1400
"""Default of the TUN interface: as one segment of a train, which is the largest frame of a packet,
and with the longer tag it fills Ethernet over IPv6: 16 of header, 4 of train, 1400, 32 of tag are
1452 = 1500 - 40 - 8. Over IPv4 that is 1480, and 1488 through the relay: PPPoE (1492) carries it.
Where less passes, the path's own limit is found out."""

MAX_UNANSWERED_CHECKS = 24
"""Checks sent to one endpoint that never answered, per punch and second: nobody aims us at a
victim."""
