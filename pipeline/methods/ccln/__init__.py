"""CCLN-style networks (IEEE TMM 2025): event localization, and matching for cross-modality localization."""
