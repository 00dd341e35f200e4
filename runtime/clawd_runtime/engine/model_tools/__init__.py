"""Tools for model files that compute with llama.cpp, each run in a process of its own."""
