"""``python -m watertight.cli``: the command without its script."""

from watertight.cli import main

main()
