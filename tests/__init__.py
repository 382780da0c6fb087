"""So that `python -m tests.fuzz` finds these tests, and not those that MMSegmentation installs."""
