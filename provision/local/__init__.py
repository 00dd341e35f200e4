"""What runs on this computer for every room: questions to the user, cache, log of the run, greenlets."""
