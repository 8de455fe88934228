"""`python -m syncline`."""

from syncline.cli import main

main()
