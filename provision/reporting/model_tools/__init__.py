"""Results of the model tools on a terminal."""
