"""punchtun: reach machines behind NAT by a tunnel IP.

A **node** reads IP packets from its TUN interface, seals them in a **session** with the right
**peer** and sends them as UDP datagrams along the best **path** it knows. The **rendezvous
server** tells two nodes each other's **candidates**; both then **punch**: they check all of them
at once until a pong proves a path. Before that, and whenever trust in the path runs out, the same
sealed frames go through the **relay** as well.

Everything that *decides* is in ``tunnel/core``: plain objects that are given datagrams, packets
and the time, and give back datagrams, packets, events and the time of their next timer. They open
no socket, read no clock and draw no randomness of their own. Everything that *touches the system*
is in ``tunnel/drivers``, with gevent, and decides nothing. ``tunnel/wire`` says what each byte
means, ``tunnel/noise`` is all the cryptography, ``tunnel/dataplane`` packs many datagrams into one
system call.

To see it work, read ``tests/sim/test_punch.py``: nodes, NATs, a server and an hour of virtual
time in a fraction of a second.
"""

__version__ = "0.1.0"
