"""`python -m facecade`: the command."""

from facecade.cli import main

main(prog_name="python -m facecade")
