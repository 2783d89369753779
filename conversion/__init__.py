"""Other projects' names and layouts, both ways: python -m conversion SOURCE TARGET (not installed with the package)."""
