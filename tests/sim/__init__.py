"""The simulated internet: machines of the core, NATs and links, in virtual time."""
