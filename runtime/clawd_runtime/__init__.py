"""clawd-runtime: the language-model engine and the bot that run on a host."""

__version__ = "0.1.0"
