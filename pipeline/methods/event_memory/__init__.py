"""Localization by distances to a memory of each class's best segments (Ge et al., ACM MM 2023)."""
