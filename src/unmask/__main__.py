"""`python -m unmask`, which is what torchrun starts."""

from unmask.cli import main

main()
