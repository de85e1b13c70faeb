"""All the cryptography, and the only importer of ``nacl``."""
