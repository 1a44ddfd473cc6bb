"""``python -m cgan`` is the ``cgan`` command."""

from cgan.commands import main

if __name__ == "__main__":
    main()
