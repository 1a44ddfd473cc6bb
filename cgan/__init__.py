"""Face generators: DCGAN and its conditional variants, the baseline beside the Fader Network."""

#: The packaged generator that is taken when none is named; ``default`` means it, too.
DEFAULT_MODEL = "faces"
