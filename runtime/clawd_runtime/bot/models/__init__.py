"""Questions to models: prompt, request, streamed answer, failures."""
