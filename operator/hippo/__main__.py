"""``python -m hippo``: the same as ``hippo``."""

from hippo.cli import main

main()
