"""The contract tests of methods, and the small worlds they run in."""
