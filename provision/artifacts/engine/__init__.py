"""The engine: the wheel of llama-cpp-python, the machines that build it, and the build itself."""
