"""A second implementation of the protocol, as small as it may be, by docs/protocol.md and the pages
it names alone: it imports nothing of ``tunnel``. ``tests/protocol/test_second.py`` has it speak
with what is there. Where it and the code do not understand each other, the document has a gap.
"""
