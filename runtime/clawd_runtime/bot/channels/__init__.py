"""The chat platforms. Each platform is a module here and a line in `registry.py`."""
