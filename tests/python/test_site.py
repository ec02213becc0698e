"""The site of the documentation is built without a warning, and what its pages link to is there."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

for package in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(package, reason="pip install sphinx furo myst-parser")
SITE = Path(__file__).parents[2] / "tools/packaging/site.sh"


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.targets, self.anchors = [], set()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name == "id":
                self.anchors.add(value)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([SITE, sys.executable, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {}
    for page in out.glob("*.html"):
        found[page] = Links()
        found[page].feed(page.read_text())
    return found


def test_every_link_within_the_site_leads_somewhere(pages):
    assert {"index.html", "python.html", "python-api.html", "program.html", "cpp.html", "serving.html"} <= {p.name for p in pages}
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            to = page.parent / unquote(parts.path) if parts.path else page
            assert to.exists(), f"{page.name} links to {target}"
            if parts.fragment and to in pages and to.name not in ("search.html", "genindex.html"):
                assert unquote(parts.fragment) in pages[to].anchors | {""}, f"{page.name} links to {target}"


def test_each_public_name_and_each_verb_has_its_place(pages):
    import tessera
    by_name = {page.name: links for page, links in pages.items()}
    for name in set(tessera.__all__) - {"HanClassifier"}:  # scikit-learn's own, in the text
        assert f"tessera.{name}" in by_name["python-api.html"].anchors
    for verb in ("segment", "classify", "train-unet", "train-han", "import", "verify"):
        assert f"tessera-{verb}" in by_name["program.html"].anchors
