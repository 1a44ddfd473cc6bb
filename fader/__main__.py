"""``python -m fader`` is the ``fader`` command."""

from fader.commands import main

if __name__ == "__main__":
    main()
