"""How Sphinx makes the site: `make docs`.

The root of the project is the source, so that a link between README, BUILD.md, docs and results leads to the same place
in the site as on a page that shows the files. Sphinx because JAX's own documentation is made by it and because it is
maintained; Markdown by MyST, the look by Furo.
"""

project = "alterrec_jax"
author = "The maintainers of alterrec_jax"
copyright = "The maintainers of alterrec_jax"

extensions = ["myst_parser"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = ["README.md", "BUILD.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "results/**"]
exclude_patterns = [".*", "runs"]
nitpicky = True

myst_heading_anchors = 4  # as where the files are shown: BUILD.md#quality

html_theme = "furo"
html_title = "alterrec_jax"
html_extra_path = ["index.html"]
html_show_sphinx = False
html_copy_source = False
