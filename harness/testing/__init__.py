"""What recorded studies name as their subject, and the contract tests of any subject."""
