"""Grammars that constrain an answer: from JSON schemas, and in processes apart from the engine's."""
