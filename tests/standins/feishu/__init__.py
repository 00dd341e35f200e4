"""A stand-in for the Feishu open platform. See ../README.md."""
