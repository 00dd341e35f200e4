"""Tools for model files on the laptop: inspect, quantise, prune, evaluate, and fit to hosts."""
