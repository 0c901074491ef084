"""Methods: the contract, discovery, the shipped contract tests, and the paper's model."""
