"""Coverage-guided fuzzing of everything that reads a file; see `docs/robustness.md`."""
