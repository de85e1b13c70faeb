"""Many datagrams in one buffer, one system call for all of them. Pure functions over bytes."""
