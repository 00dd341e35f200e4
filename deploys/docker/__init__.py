"""docker: the engine, its complete configuration, and a guard in front of published ports."""
