"""The pictures are what scripts/pictures.py draws: well-formed, readable on light and dark."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from xml.etree import ElementTree

import pytest

from .markdown import ROOT, all_pages

SCRIPT = ROOT / "scripts" / "pictures.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("punchtun_pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


pictures = load()
NAMES: list[str] = list(pictures.PICTURES)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_as_it_is_drawn_now(name: str) -> None:
    stored = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert stored == pictures.PICTURES[name]().svg(), "run scripts/pictures.py"


def test_each_picture_is_in_a_page_and_each_has_a_maker() -> None:
    shown = {link for page in all_pages() for link in page.links if "pictures/" in link}
    assert shown == {f"pictures/{name}.svg" for name in NAMES}
    assert {path.stem for path in (ROOT / "docs" / "pictures").iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_well_formed_and_has_a_title(name: str) -> None:
    root = ElementTree.fromstring(pictures.PICTURES[name]().svg())
    assert root.tag.endswith("}svg")
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(text.attrib["x"]) < width
        assert 0 < float(text.attrib["y"]) < height


def brightness(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((brightness(one), brightness(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [pictures.LIGHT, pictures.DARK], ids=["light", "dark"])
def test_text_is_readable(palette: dict[str, str]) -> None:
    """WCAG 2.1, level AA, against the page, the boxes and their own coloured boxes."""
    for name in ("ink", "soft", "good", "fair", "poor"):
        grounds = ["page", "box", *([f"{name}box"] if f"{name}box" in palette else [])]
        for ground in grounds:
            assert contrast(palette[name], palette[ground]) >= 4.5, (name, ground)


def test_both_palettes_have_the_same_names() -> None:
    assert pictures.LIGHT.keys() == pictures.DARK.keys()
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_the_matrix_is_the_theory() -> None:
    """Symmetric, and of each kind there is some."""
    behaviours = pictures.BEHAVIOURS
    judged = {(a, b): pictures.judge_pair(a, b) for a in behaviours for b in behaviours}
    assert set(judged.values()) == {"meets", "guess", "some"}
    assert all(judged[a, b] == judged[b, a] for a, b in judged)
    steady = behaviours[:3]
    assert {judged[a, b] for a in steady for b in steady} == {"meets"}
