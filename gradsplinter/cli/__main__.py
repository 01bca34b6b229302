"""`python -m gradsplinter.cli`."""

from gradsplinter.cli import main

main()
