"""What can go wrong, by whose fault.

:class:`Malformed` and :class:`AuthenticationFailed` are a remote's fault: the core catches them,
drops the datagram and counts the reason. :class:`OperatorError` and its kin are for people: the
message names the cause and the cure, and the command exits with ``exit_code``.
"""


class Malformed(Exception):
    """Bytes that are not a message of ours. The text is the drop reason."""


class AuthenticationFailed(Exception):
    """A tag, signature or MAC did not verify. The text is the drop reason."""


class OperatorError(Exception):
    """Something a person can mend. The message says what is wrong and what to do about it."""

    exit_code = 1


class UsageError(OperatorError):
    """Wrong arguments or a join string or URL that cannot be read."""

    exit_code = 2


class RevokedError(OperatorError):
    """This machine is a member no more. The code is that of what does not mend itself: whoever
    restarts us is to stop."""

    exit_code = 2


class PeerUnavailable(OperatorError):
    """The peer named is unknown or offline."""

    exit_code = 4


class ServerUnreachable(OperatorError):
    """The rendezvous server does not answer and the command cannot do without it."""

    exit_code = 5


class NotRunning(OperatorError):
    """No node is running on this state directory."""

    exit_code = 6
