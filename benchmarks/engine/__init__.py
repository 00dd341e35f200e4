"""The engine against its peers over HTTP: `make bench-engine`."""
