"""The chat platforms. A platform is one module here and one line in `registry.py`."""
