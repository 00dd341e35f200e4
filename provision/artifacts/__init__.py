"""Artifacts that are pushed to hosts: releases of clawd-runtime for their kind, and the model."""
