"""The pictures of the README and the documentation: each in light and dark, and small."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.helpers.places import ROOT

PICTURES = sorted((ROOT / "docs" / "pictures").iterdir())


def test_every_picture_is_there_in_light_and_dark() -> None:
    names = {picture.name for picture in PICTURES}
    kinds = {name.replace("-light.", "-*.").replace("-dark.", "-*.") for name in names}
    assert kinds == {"curve-*.svg", "evaluation-page-*.png", "tree-*.svg", "tree-page-*.png"}
    assert names == {kind.replace("*", scheme) for kind in kinds for scheme in ("light", "dark")}


def test_together_they_are_small_and_drawings_are_well_formed() -> None:
    assert sum(picture.stat().st_size for picture in PICTURES) <= 600_000
    for picture in PICTURES:
        if picture.suffix == ".svg":
            assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
