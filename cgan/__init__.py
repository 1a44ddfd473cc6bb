"""Face generators: DCGAN and its conditional variants, the baseline beside the Fader Network."""
