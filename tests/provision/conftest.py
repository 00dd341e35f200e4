"""Tests of the laptop's side run as the program does: with cooperative blocking calls."""

from provision.local import concurrency

concurrency.enable()
