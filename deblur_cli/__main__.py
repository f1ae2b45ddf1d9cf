"""`python -m deblur_cli` is the `deblur` command."""

from deblur_cli.app import main

main()
