"""The review of the workspace program: what it declares, what that changes, whom it lets in, and what it costs."""
