"""Editing on a cluster: ``fader edit --engine ray``.

``places`` reads and writes folders and URLs, ``listing`` streams what is to be done, ``rows`` keeps
what was done, ``work`` is what one process does, and ``engine`` has Ray share the work.
"""
