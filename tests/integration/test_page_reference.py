"""The decoder in Python reads the frozen pages as the C one does: two readings of FORMAT.md agree."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT / "tests" / "quality"))
from page_reference import Page, Tables  # noqa: E402


@pytest.fixture(scope="module")
def tables():
    return Tables()


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.page")),
                         ids=lambda path: str(path.relative_to(GOLDEN).with_suffix("")))
def test_a_frozen_page_decodes_to_its_values(tables, path):
    page = Page(tables, path.read_bytes())

    assert page.decode().tobytes() == path.with_suffix(".values").read_bytes()


def test_every_coding_is_among_the_frozen_pages(tables):
    codings = {Page(tables, path.read_bytes()).coding for path in GOLDEN.glob("*.page")}

    assert codings == {0, 1, 2, 3}


def test_compact_dtypes_are_frozen_exact_and_at_a_level(tables):
    pages = [Page(tables, path.read_bytes()) for path in GOLDEN.glob("*.page")]

    assert {(page.dtype, page.coding) for page in pages if page.dtype > 3} == {
        (dtype, coding) for dtype in (4, 5, 6, 7, 8) for coding in (1, 3)}


def test_wide_and_aged_pages_and_far_tokens_are_among_them(tables):
    pages = [Page(tables, path.read_bytes()) for path in GOLDEN.glob("level*.page")]

    assert any(page.flags & 1 for page in pages), "wide"
    assert any(page.flags & 2 for page in pages), "without means"
    assert any(page.phase for page in pages), "aged"
    assert any(page.exact_tokens and max(page.exact_tokens) > 3 for page in pages), "a far token"
