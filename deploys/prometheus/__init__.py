"""prometheus: gathers the metrics of all hosts and looks for what is beyond its threshold."""
