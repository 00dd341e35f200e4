"""docker: the engine, its whole configuration, and a guard in front of published ports."""
