"""Reproduces a reported trial, or a claim, and judges the numbers that come out."""
