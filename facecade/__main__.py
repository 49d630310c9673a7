"""`facecade` and `python -m facecade`: the command line, as installed."""

from __future__ import annotations

import signal


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as in cli.py
    from facecade.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
