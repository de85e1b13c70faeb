"""gevent and system calls. Drivers decide nothing: an ``if`` about the protocol belongs in core."""
