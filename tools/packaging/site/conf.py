"""Settings of Sphinx for Tessera's site; tools/packaging/site.sh builds it. The texts are those of the tree, included."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

project = "Tessera"
author = "Tessera maintainers"
copyright = "2026, Tessera maintainers"
release = version = re.search(r"project\(Tessera VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["conf.py"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # an included text begins at its own level

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
highlight_language = "text"
autodoc_mock_imports = ["sklearn"]  # an extra; its base classes are not shown

html_theme = "furo"
html_title = f"Tessera {release}"
html_static_path = []
html_show_sourcelink = False


PAGES = {"tools/python/README.md": "python.md", "tools/serve/README.md": "serving.md", "tools/packaging/README.md": "packages.md"}


def setup(app):
    """Links between the tree's texts become those of pages. Docstrings are plain text whose columns mean something; only their
    first paragraph is prose."""
    def lead_to_pages(app, path, parent, content):
        for text, page in PAGES.items():
            content[0] = content[0].replace(f"]({text})", f"]({page})")

    def keep_columns(app, what, name, obj, options, lines):
        first = lines.index("") if "" in lines else len(lines)
        rest = lines[first:]
        if any(line.strip() for line in rest):
            lines[first:] = ["", "::", ""] + ["   " + line for line in rest] + [""]
    app.connect("include-read", lead_to_pages)
    app.connect("autodoc-process-docstring", keep_columns)
