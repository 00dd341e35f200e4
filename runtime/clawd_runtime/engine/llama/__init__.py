"""llama.cpp: the model, its back ends, its log."""
