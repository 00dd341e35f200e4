"""The Feishu channel."""
