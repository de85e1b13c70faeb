"""State files ↔ the core's frozen dataclasses.

JSON objects, whose fields are listed here and nowhere else:

``node.json``    private_key, name, server; network_key, network_secret, certificate once a member;
                 signing_key on an inviter; joined_by: id of the invitation it joined with;
                 next_private_key while one is asked for; retired: the revocation of the key before
``ledger.json``  issued: certificates; invitations: token, name, addresses, expires,
                 redeemed: key, name; revoked: certificates; successors: pairs of keys
``peers.json``   peers: certificate, endpoints
``revocations.json``  revocations; announced: beginnings of revoked keys, from the admission
``server.json``  private_key, access_token, port
``page.json``    token: of the server's page

Keys, tokens, certificates and revocations are base64url.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunnel.core.configuration import KnownPeer
from tunnel.core.ledger import Invitation, InvitationLedger
from tunnel.core.membership import NetworkIdentity
from tunnel.core.peer import Peer
from tunnel.core.relay_allowance import RelayUse
from tunnel.errors import Malformed, OperatorError
from tunnel.noise.keys import PrivateKey, SigningKey, VerifyKey
from tunnel.wire.certificate import Certificate, is_valid_name, parse_certificate
from tunnel.wire.confidential import Confidential
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import (
    DEFAULT_PORT,
    REVOKED_LENGTH,
    TOKEN_LENGTH,
    ServerUrl,
    decode_base64,
    encode_base64,
    parse_server_url,
)
from tunnel.wire.revocation import Revocation, parse_revocation

NODE_FILE = "node.json"
LEDGER_FILE = "ledger.json"
PEERS_FILE = "peers.json"
REVOCATIONS_FILE = "revocations.json"
SERVER_FILE = "server.json"
RELAY_FILE = "relay.json"
PAGE_FILE = "page.json"


Json = dict[str, Any]


@dataclass
class NodeState:
    """What a node must not lose."""

    static: PrivateKey
    server: ServerUrl
    identity: NetworkIdentity | None = None
    certificate: Certificate | None = None
    signing_key: SigningKey | None = field(default=None, repr=False)
    joined_by: str | None = None
    next_static: PrivateKey | None = None
    """The key that shall take the place of `static`, while a certificate of it is asked for."""
    retired: Revocation | None = None
    """Of the key that `static` took the place of."""


@dataclass
class ServerState(Confidential):
    static: PrivateKey
    access_token: bytes = field(repr=False)
    port: int = DEFAULT_PORT

    def url(
        self, host: str, tcp_port: int | None = None, websocket: str | None = None
    ) -> ServerUrl:
        key = self.static.public_key.data
        return ServerUrl(host, self.port, key, self.access_token, tcp_port, websocket)


def pack_node_state(state: NodeState) -> Json:
    content: Json = {
        "private_key": encode_base64(state.static.data),
        "server": state.server.text,
        "joined_by": state.joined_by,
    }
    if state.identity and state.certificate:
        content["network_key"] = encode_base64(state.identity.key.data)
        content["network_secret"] = encode_base64(state.identity.secret)
        content["certificate"] = encode_base64(state.certificate.pack())
        content["name"] = state.certificate.name
    if state.next_static:
        content["next_private_key"] = encode_base64(state.next_static.data)
    if state.retired:
        content["retired"] = encode_base64(state.retired.pack())
    if state.signing_key:
        content["signing_key"] = encode_base64(state.signing_key.data)
    return content


def parse_node_state(content: Json) -> NodeState:
    """Raises OperatorError when a field is missing or damaged."""
    with_field = _FieldReader(NODE_FILE, content)
    state = NodeState(
        static=PrivateKey(with_field.data("private_key", 32)),
        server=with_field.parsed("server", parse_server_url),
        joined_by=content.get("joined_by"),
    )
    if "certificate" in content:
        state.certificate = with_field.parsed("certificate", _read_certificate)
        state.identity = NetworkIdentity(
            VerifyKey(with_field.data("network_key", 32)), with_field.data("network_secret", 32)
        )
    if "next_private_key" in content:
        state.next_static = PrivateKey(with_field.data("next_private_key", 32))
    if "retired" in content:
        state.retired = with_field.parsed("retired", _read_revocation)
    if "signing_key" in content:
        state.signing_key = SigningKey(with_field.data("signing_key", 32))
    return state


def pack_ledger(ledger: InvitationLedger) -> Json:
    return {
        "issued": [encode_base64(certificate.pack()) for certificate in ledger.issued],
        "invitations": [
            {
                "token": encode_base64(invitation.token),
                "name": invitation.name,
                "addresses": [str(address) for address in invitation.addresses],
                "expires": invitation.expires,
                "redeemed": [
                    {"key": encode_base64(key), "name": name}
                    for key, name in invitation.redeemed.items()
                ],
            }
            for invitation in ledger.invitations
        ],
        "revoked": [encode_base64(certificate.pack()) for certificate in ledger.struck],
        "successors": [
            [encode_base64(old), encode_base64(new)] for old, new in ledger.successors.items()
        ],
    }


def parse_ledger(content: Json, state: NodeState) -> InvitationLedger:
    """Raises OperatorError when a field is missing or damaged."""
    assert state.identity
    assert state.signing_key
    try:
        issued = [_read_certificate(text) for text in content["issued"]]
        if not issued:
            raise Malformed("no certificate is issued")
        invitations = [_read_invitation(entry) for entry in content["invitations"]]
        struck = [_read_certificate(text) for text in content.get("revoked", [])]
        successors = {_read_key(old): _read_key(new) for old, new in content.get("successors", [])}
    except _WRONG as error:
        raise _damaged(LEDGER_FILE, str(error)) from error
    return InvitationLedger(
        state.identity,
        state.signing_key,
        state.static,
        issued,
        invitations,
        struck,
        successors,
    )


def _read_key(text: str) -> bytes:
    key = decode_base64(text)
    if len(key) != 32:
        raise Malformed("key length")
    return key


def _read_invitation(entry: Json) -> Invitation:
    if not is_valid_name(entry["name"]):
        raise Malformed("name of an invitation")
    if "address" in entry:  # Written by a version whose invitations admitted one machine.
        joiner = entry["redeemed_by"]
        redeemed = [] if joiner is None else [{"key": joiner, "name": entry["name"]}]
        entry = entry | {"addresses": [entry["address"]], "redeemed": redeemed}
    invitation = Invitation(
        token=_decode_exactly(entry["token"], TOKEN_LENGTH),
        name=entry["name"],
        addresses=tuple(ipaddress.IPv4Interface(str(each)) for each in entry["addresses"]),
        expires=int(entry["expires"]),
        redeemed={_decode_exactly(one["key"], 32): one["name"] for one in entry["redeemed"]},
    )
    if not all(is_valid_name(name) for name in invitation.redeemed.values()):
        raise Malformed("name of a member")
    if len(invitation.redeemed) > invitation.uses or not invitation.uses:
        raise Malformed("uses of an invitation")
    return invitation


def pack_peers(peers: Iterable[Peer]) -> Json:
    entries = []
    for peer in peers:
        best = peer.traversal.best
        endpoints = [best.endpoint] if best else list(peer.known_endpoints)
        entries.append(
            {
                "name": peer.name,
                "certificate": encode_base64(peer.packed_certificate),
                "endpoints": [[endpoint.host, endpoint.port] for endpoint in endpoints],
            }
        )
    return {"peers": entries}


def parse_peers(content: Json | None) -> tuple[KnownPeer, ...]:
    """Raises OperatorError when damaged. The certificates are verified by the node."""
    try:
        return tuple(
            KnownPeer(
                decode_base64(entry["certificate"]),
                tuple(_read_endpoint(host, port) for host, port in entry["endpoints"]),
            )
            for entry in ([] if content is None else content["peers"])
        )
    except _WRONG as error:
        raise _damaged(PEERS_FILE, str(error)) from error


def _read_endpoint(host: str, port: int) -> Endpoint:
    if not 0 < port < 65536:
        raise Malformed("port")
    return Endpoint(str(ipaddress.ip_address(host)), int(port))


def pack_revocations(revocations: Iterable[Revocation], announced: Iterable[bytes] = ()) -> Json:
    return {
        "revocations": [encode_base64(revocation.pack()) for revocation in revocations],
        "announced": [encode_base64(beginning) for beginning in sorted(announced)],
    }


def parse_revocations(content: Json | None) -> tuple[bytes, ...]:
    """Raises OperatorError when damaged. The signatures are verified by the node."""
    try:
        packed = [decode_base64(t) for t in ([] if content is None else content["revocations"])]
        return tuple(parse_revocation(each).pack() for each in packed)
    except _WRONG as error:
        raise _damaged(REVOCATIONS_FILE, str(error)) from error


def parse_announced(content: Json | None) -> tuple[bytes, ...]:
    """Raises OperatorError when damaged."""
    try:
        texts = (content or {}).get("announced", [])
        found = tuple(decode_base64(text) for text in texts)
        if any(len(beginning) != REVOKED_LENGTH for beginning in found):
            raise Malformed("the beginning of a key")
        return found
    except _WRONG as error:
        raise _damaged(REVOCATIONS_FILE, str(error)) from error


def pack_server_state(state: ServerState) -> Json:
    return {
        "private_key": encode_base64(state.static.data),
        "access_token": encode_base64(state.access_token),
        "port": state.port,
    }


def parse_server_state(content: Json) -> ServerState:
    """Raises OperatorError when a field is missing or damaged."""
    with_field = _FieldReader(SERVER_FILE, content)
    port = content.get("port")
    if not isinstance(port, int) or not 0 < port < 65536:
        raise _damaged(SERVER_FILE, "port")
    return ServerState(
        PrivateKey(with_field.data("private_key", 32)), with_field.data("access_token", 16), port
    )


def pack_relay_use(use: RelayUse) -> Json:
    return {"period": use.period, "used": dict(use.used)}


def parse_relay_use(content: Json | None) -> RelayUse | None:
    """None where there was no file. Raises OperatorError when a field is missing or damaged."""
    if content is None:
        return None
    _FieldReader(RELAY_FILE, content)
    period, used = content.get("period"), content.get("used")
    if not isinstance(period, str):
        raise _damaged(RELAY_FILE, "period")
    if not isinstance(used, dict) or not all(
        re.fullmatch("[0-9a-f]{32}", name) and type(size) is int and size >= 0
        for name, size in used.items()
    ):
        raise _damaged(RELAY_FILE, "used")
    return RelayUse(period, used)


class _FieldReader:
    def __init__(self, file: str, content: Json) -> None:
        if not isinstance(content, dict):
            raise _damaged(file, "no object")
        self._file = file
        self._content = content

    def data(self, key: str, length: int | None = None) -> bytes:
        data = self.parsed(key, decode_base64)
        if length is not None and len(data) != length:
            raise _damaged(self._file, key)
        assert isinstance(data, bytes)
        return data

    def parsed(self, key: str, parse: Any) -> Any:
        try:
            return parse(self._content[key])
        except _WRONG as error:
            raise _damaged(self._file, key) from error


def _read_revocation(text: str) -> Revocation:
    return parse_revocation(decode_base64(text))


def _read_certificate(text: str) -> Certificate:
    return parse_certificate(decode_base64(text))


def _decode_exactly(text: str, length: int) -> bytes:
    data = decode_base64(text)
    if len(data) != length:
        raise Malformed("length")
    return data


_WRONG = (KeyError, TypeError, ValueError, AttributeError, OverflowError, Malformed)
"""What reading a field of a wrong type or value raises."""


def _damaged(file: str, what: str) -> OperatorError:
    return OperatorError(
        f"{file} in the state directory is damaged ({what}): restore it from a backup, "
        "or move it away and start anew"
    )
