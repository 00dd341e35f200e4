"""What the user sees: plans, results and errors on the terminal, as JSON, and in the log of a run."""
