"""Links within the documentation lead somewhere, and the map in the README shows every page."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, anchors, links, name_of, pages


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page):
    for target in links(page):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors(place), f"{name_of(page)} links to {target}"


def test_the_readme_leads_to_every_page():
    """In one step, or in two by way of a page that it links to."""
    near = reached_from(ROOT / "README.md")
    far = {other for page in near for other in reached_from(page)}
    missing = set(pages()) - near - far - {ROOT / "README.md"}
    assert not missing, sorted(map(name_of, missing))


def reached_from(page):
    """The pages that a page links to."""
    found = {(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link}
    return {place for place in found if place.suffix == ".md" and place.is_file()}
