"""Code for the laptop that all packages use: prompts, cache, log of the run, greenlets."""
