"""CCLN-style networks (IEEE TMM 2025): localization, and matching for cross-modality localization."""
