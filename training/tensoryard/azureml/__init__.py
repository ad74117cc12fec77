"""Azure ML's SDK v1 by its own module names: put `tensoryard.` in front of the imports of an old script."""
