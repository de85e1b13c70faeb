"""Two nodes of the real program agree on what to seal with, and `--no-aegis` is heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnel.noise.sodium import has_aes

from .lab import Lab
from .traffic import FileServer
from .world import World

pytestmark = pytest.mark.root

SIZE = 2_000_000
CHACHA = "ChaCha20-Poly1305"
BEST = "AEGIS-128L" if has_aes() else CHACHA


@pytest.mark.parametrize(
    ("ours", "theirs", "cipher"),
    [
        ([], [], BEST),
        (["--no-aegis"], [], CHACHA),
        ([], ["--no-aegis"], CHACHA),
        (["--no-aegis"], ["--no-aegis"], CHACHA),
    ],
)
def test_the_cipher_of_a_pair(
    world: World, lab: Lab, tmp_path: Path, ours: list[str], theirs: list[str], cipher: str
) -> None:
    home = lab.home_router("home", public="198.51.100.7")
    other = lab.home_router("other", public="198.51.100.8")
    attic = world.found("attic", home.host("a"), *ours)
    camera = world.join("camera", other.host("b"), attic, *theirs)
    world.wait_direct(attic, camera)
    assert attic.peer("camera")["cipher"] == camera.peer("attic")["cipher"] == cipher
    server = FileServer(attic.host, attic.ip4, tmp_path / "www", size=SIZE)
    assert server.fetch(camera.host) == SIZE
