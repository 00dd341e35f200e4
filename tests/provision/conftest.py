"""Tests of the laptop's side run as the program does: with cooperative blocking calls."""

from provision.connection import concurrency

concurrency.enable()
