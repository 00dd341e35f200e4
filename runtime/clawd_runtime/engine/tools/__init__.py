"""Calls of tools: in prompts, in answers, and in grammars."""
